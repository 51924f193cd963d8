"""The demo: a market from candles to live signals, on one machine, each stage shown as it happens.

`python -m flows.demo` takes the simulated market; `--data PATH` takes your own candle files.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from atlas.config import Settings, load_settings
from atlas.errors import AtlasError, InvalidInput
from atlas.runtime import environment, supervise, write_environment

__all__ = ["main", "run"]

_COMPONENTS = ("clickhouse", "redis", "tables", "live", "worker", "prefect")
_QUIET = {
    # Prefect tells of every failure with its traceback; the demo says it in one sentence.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


def run(settings: Settings, *, data: str | None, seed: int, trials: int, hours: float) -> None:
    """Run the demo over the settings' state folder.

    Parameters
    ----------
    data : str or None
        Candle file or folder; None simulates a market.
    seed : int
        Of the simulated market and of the search.
    hours : float
        Market hours to play that training never saw.
    """
    if data is not None and not Path(data).exists():
        raise InvalidInput(f"Expected a candle file or folder; found nothing at {data}.")
    # Before Prefect, Feast and MLflow are imported: they read these once.
    os.environ.update(environment(settings) | _QUIET)
    from flows.narration import Narrator

    narrator = Narrator()
    narrator.say(
        f"[bold]Atlas[/]: candles to live signals. Own data: {data}"
        if data
        else "[bold]Atlas[/]: candles to live signals, on a [bold]simulated[/] market "
        f"(seed {seed}): its predictability is planted, and so is a trap."
    )
    write_environment(settings)
    narrator.console.print("\n[bold]Local stack[/]")
    with supervise(settings, only=_COMPONENTS, on_change=narrator.component) as supervisor:
        # Takes seconds, in which the stack starts.
        from flows import stages
        from flows.market import load_market

        stages.begin(narrator, supervisor)
        market = load_market(narrator, data, seed=seed, hours=hours)
        stages.prepare_features(narrator, market)
        judgements = stages.judge(narrator, market, trials=trials, seed=seed)
        seen = stages.play_live(narrator, market, judgements)
        stages.conclude(narrator, market, judgements, seen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn every expected failure into one sentence."""
    parser = argparse.ArgumentParser(prog="atlas demo", description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="candle file or folder: JSON, CSV, Parquet or Feather")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated market (0)")
    parser.add_argument("--trials", type=int, default=24, help="trials a candidate (24)")
    parser.add_argument("--hours", type=float, default=12.0, help="market hours played live (12)")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(
            load_settings(),
            data=given.data,
            seed=given.seed,
            trials=given.trials,
            hours=given.hours,
        )
    except AtlasError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
