"""`atlas demo`: starts `python -m flows.demo` as a child, since flows lie above Atlas."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from atlas.errors import InvalidInput

__all__ = ["demo"]


def demo(
    data: Annotated[Path | None, typer.Option(help="Your candle file or folder.")] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated market and the search.")] = 0,
    trials: Annotated[int, typer.Option(help="Trials a candidate.")] = 24,
    hours: Annotated[float, typer.Option(help="Market hours played live.")] = 12.0,
) -> None:
    """Take a market from candles to live signals: a simulated one, or your own candles."""
    if not Path("flows", "demo.py").is_file():
        raise InvalidInput(
            f"Expected the folder of Atlas's sources, with flows/ in it; found {Path.cwd()}. "
            "Change there first."
        )
    command = [sys.executable, "-m", "flows.demo"]
    command += ["--seed", str(seed), "--trials", str(trials), "--hours", str(hours)]
    command += ["--data", str(data)] if data is not None else []
    child = subprocess.Popen(command)
    # Ctrl-C reaches the child by itself; it stops its stack, and only then do we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    raise typer.Exit(child.wait())
