"""Which code made a version: the release, and a hash of the sources that ran."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import atlas

__all__ = ["code_version"]


@cache
def code_version() -> str:
    """Return the release and the first digits of the SHA-256 of the package's sources.

    A working copy that was edited since the release differs in the second part.
    """
    root = Path(atlas.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return f"{atlas.__version__}+{digest.hexdigest()[:12]}"
