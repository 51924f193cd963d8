# make setup | demo | up | test | test-slow | check | bench
# Set-up happens by itself; `make demo DATA=path` takes your own candles, and `make setup EXTRAS=deep`
# installs torch, which training LSTM and Transformer needs (0.9 GB, several with a GPU's libraries);
# EXTRAS=dask what walks trials on Dask.
.PHONY: setup demo up test test-slow check bench lock
.DEFAULT_GOAL := demo

VENV ?= .venv
PYTHON ?= $(shell for v in 3.12 3.11; do p=$$(command -v python$$v) && "$$p" -c '' 2>/dev/null && echo "$$p" && break; done)
BIN := $(VENV)/bin
EXTRAS ?=
STAMP := $(VENV)/.atlas-ready$(addprefix -,$(EXTRAS))
# Tests are bound by waiting for engines as much as by the processor.
WORKERS ?= 3

setup: $(STAMP)

$(STAMP): $(wildcard requirements*.lock) pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" sh tools/setup.sh $(VENV) $(EXTRAS)
	@touch $(VENV)/.atlas-ready $@

demo: $(STAMP)
	@$(BIN)/atlas demo $(if $(DATA),--data "$(DATA)") $(if $(SEED),--seed $(SEED))

up: $(STAMP)
	@$(BIN)/atlas up

test: $(STAMP)
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-slow: $(STAMP)
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal -m slow --timeout=3600

check: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(STAMP)
	@$(BIN)/python -m bench

lock:
	@sh tools/lock.sh
