"""Where commands print: a terminal as wide as it is, a pipe wide enough for tables."""

from __future__ import annotations

from rich.console import Console

__all__ = ["open_console"]

_PIPE_WIDTH = 120


def open_console(*, stderr: bool = False) -> Console:
    """Return the console of a command's answer."""
    made = Console(highlight=False, stderr=stderr)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH  # nothing tells a pipe's width, and 80 would cut tables
    return made
