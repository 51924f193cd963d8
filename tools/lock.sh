#!/bin/sh
# Makes requirements.lock anew: exact versions for Python 3.11 to 3.13, no address of any index.
set -eu
export UV_FIND_LINKS="${PIP_FIND_LINKS:-}" UV_PYTHON_DOWNLOADS=never
.venv/bin/uv pip compile --universal --python-version 3.11 --upgrade --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links --group dev pyproject.toml --output-file requirements.lock
