"""What is known of a value that was asked for."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Status"]


class Status(IntEnum):
    """What is known of one value, or of one sequence of rows."""

    PRESENT = 0
    NULL = 1
    """Written, and not a number: the feature was not warm."""
    STALE = 2
    """Written, but its row is older than the view allows."""
    MISSING = 3
    """Never written for this key."""
