#!/bin/sh
# Makes the virtual environment $1 from requirements.lock, with the extra $2 if there is one.
# uv installs in parallel (10 s instead of 100 s); where pip is configured in a way that uv cannot
# follow, pip does it.
set -eu
venv=$1
extra=${2:-}
if [ -n "$extra" ] && [ ! -f "requirements-$extra.lock" ]; then
    echo "Atlas has the extras deep and dask; found EXTRAS=$extra. Run: make setup EXTRAS=deep" >&2
    exit 1
fi
python=${PYTHON:-}
if [ -z "$python" ]; then
    echo "Atlas needs Python 3.11 or 3.12 on PATH; found neither. Install one, or run: make PYTHON=/path/to/python3.12" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
    echo "Atlas needs Python 3.11 or 3.12 (3.13 with redis-server on PATH); found $("$python" --version)." >&2
    exit 1
fi
echo "Setting up $venv with $("$python" --version) ..."
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# An environment that uv made has no pip.
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# uv reads neither pip's configuration nor its variables; what matters is handed on.
setting() { "$venv/bin/python" -m pip config get "$1" 2>/dev/null || true; }
with_uv() {
    pip install uv 2>/dev/null || return 1
    index=${PIP_INDEX_URL:-$(setting global.index-url)}
    links=${PIP_FIND_LINKS:-$(setting global.find-links)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
    [ -z "$links" ] || export UV_FIND_LINKS="$links"
    export UV_PYTHON_DOWNLOADS=never
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" -r requirements.lock \
        ${extra:+-r "requirements-$extra.lock"} &&
        "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps -e .
}
if ! with_uv; then
    echo "uv could not install; trying pip, which takes longer." >&2
    pip install --no-deps -r requirements.lock
    # With its dependencies: which build of torch this machine gets decides what comes along.
    [ -z "$extra" ] || pip install -c requirements.lock -r "requirements-$extra.lock"
    pip install --no-deps -e .
fi
# Compiled once here, so that no command's first start pays for it.
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >/dev/null 2>&1 || true
