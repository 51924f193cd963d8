#!/bin/sh
# Makes the locks anew: exact versions for Python 3.11 to 3.13, no address of any index.
# requirements.lock is what everybody needs; requirements-EXTRA.lock is what an extra adds to it.
set -eu
export UV_FIND_LINKS="${PIP_FIND_LINKS:-}" UV_PYTHON_DOWNLOADS=never
compile() {
    .venv/bin/uv pip compile --universal --python-version 3.11 --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --group dev "$@" pyproject.toml
}
compile --upgrade --output-file requirements.lock

# Builds of torch differ by machine: a suffix, and what each brings for a GPU, which it pins itself.
# The plain version matches all of them.
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
for extra in deep dask; do
    compile --extra "$extra" --constraint requirements.lock --output-file "$work/all" >/dev/null
    sed -e 's/^torch==\([^+ ]*\).*/torch==\1/' -e '/^\(cuda-\|nvidia-\|triton==\)/d' "$work/all" |
        awk 'NR == FNR { locked[$1]; next } !($1 in locked)' requirements.lock - |
        sort -u >"requirements-$extra.lock"
    rm "$work/all"
done

# A machine for workers alone needs little of all that.
.venv/bin/python -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["project"]["optional-dependencies"]["worker"]))
' >"$work/worker.in"
.venv/bin/uv pip compile --universal --python-version 3.11 --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links --constraint requirements.lock \
    --output-file requirements-worker.lock "$work/worker.in"
