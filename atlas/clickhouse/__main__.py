"""Start the embedded ClickHouse server: `python -m atlas.clickhouse --path P --port N`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from atlas.clickhouse.server import Limits, serve
from atlas.errors import AtlasError
from atlas.telemetry import configure_logging

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; return 0, or 1 with one sentence if the server cannot start."""
    given = vars(_parser().parse_args(arguments))
    limits = {
        field.name: given[field.name]
        for field in fields(Limits)
        if given.get(field.name) is not None
    }
    configure_logging()
    try:
        serve(given["path"], given["port"], host=given["host"], limits=Limits(**limits))
    except AtlasError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atlas.clickhouse", description=__doc__)
    parser.add_argument(
        "--path", type=Path, required=True, help="folder of the data; made if absent"
    )
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--server-memory-bytes", type=int, help="default: a quarter of the memory")
    parser.add_argument("--query-memory-bytes", type=int, help="default: half of the server's")
    parser.add_argument("--max-running", type=int, help="statements at once")
    parser.add_argument("--max-waiting", type=int, help="statements in the queue")
    parser.add_argument("--max-wait-seconds", type=float, help="longest wait in the queue")
    parser.add_argument("--max-idle-seconds", type=float, help="longest pause of a client")
    return parser


if __name__ == "__main__":
    sys.exit(main())
