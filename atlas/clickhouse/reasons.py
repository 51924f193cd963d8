"""What an error of ClickHouse says, without the query and the addresses that it repeats."""

from __future__ import annotations

import re

__all__ = ["reason_of"]

_ACCOUNT = re.compile(r"DB::Exception: (.*?)(?:[.:]? In scope |\. \(|\n|$)", re.DOTALL)
_LONGEST = 300


def reason_of(error: BaseException) -> str:
    """Return why ClickHouse did not answer, in some words that fit into a sentence."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    # The driver wraps what the network says into its own retries, twice.
    text = root.strerror or str(root) if isinstance(root, OSError) else str(error)
    text = text.strip() or repr(error)
    found = _ACCOUNT.search(text)
    return (found[1] if found else text.splitlines()[0])[:_LONGEST].rstrip(". ")
