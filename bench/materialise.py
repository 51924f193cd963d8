"""`feast materialize` with Atlas's engine and stores, against Feast's own engine and Redis store.

Each run is a process of its own, so that its memory is its own too.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import subprocess
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from redis import Redis

from atlas.config import Settings, load_settings
from atlas.offline import ClickHouseSource
from bench.feature_rows import START, feature_store, make_table, view_of
from bench.measure import Measured, memory_growth, timed

__all__ = ["materialise_growth", "materialise_many"]

_FEATURES = 20
_STORES: dict[str, dict[str, Any]] = {
    "ours": {"batch_engine": {"type": "atlas.online.ComputeEngine"}},
    "feast": {"online": "redis"},
}


def materialise_many(client: Client, settings: Settings, folder: Path) -> Measured:
    """50 k entities of 20 features, the comparison with what is there included."""
    n = 50_000
    _prepare(client, n)
    ours = [_in_process("ours", n, settings, folder / f"ours-{i}") for i in range(3)]
    theirs = [_in_process("feast", n, settings, folder / "feast")]
    seconds = statistics.median(run["seconds"] for run in ours)
    return Measured(
        f"materialise {n // 1_000} k x {_FEATURES}",
        seconds,
        theirs[0]["seconds"],
        "Feast's engine and store",
        ">= 10 x faster",
        {
            "entities_per_s": n / seconds,
            "growth_mb": max(run["growth_mb"] for run in ours),
            "baseline_growth_mb": theirs[0]["growth_mb"],
        },
    )


def materialise_growth(
    client: Client, settings: Settings, folder: Path, sizes: list[int], stores: str
) -> list[float]:
    """Return the seconds for each number of entities."""
    taken = []
    for n in sizes:
        _prepare(client, n)
        taken.append(_in_process(stores, n, settings, folder / f"{stores}-{n}")["seconds"])
    return taken


def _table(n: int) -> str:
    return f"latest_{n}"


def _prepare(client: Client, n: int) -> None:
    if not client.command(f"EXISTS TABLE {_table(n)}"):
        make_table(client, _table(n), symbols=n, rows=2, features=_FEATURES)


def _in_process(stores: str, n: int, settings: Settings, folder: Path) -> dict[str, float]:
    with Redis(port=settings.redis_port) as redis:
        redis.flushall()
    engines = [settings.home, settings.clickhouse_port, settings.redis_port]
    child = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.materialise",
            stores,
            str(n),
            str(folder),
            *map(str, engines),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise RuntimeError(f"materialise {stores} {n}: {child.stderr[-2_000:]}")
    with Redis(port=settings.redis_port) as redis:
        if (landed := redis.dbsize()) < n:
            raise RuntimeError(f"materialise {stores}: expected {n} keys in Redis; found {landed}")
    answer: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return answer


def _child(stores: str, n: int, folder: Path, settings: Settings) -> None:
    source = ClickHouseSource(
        table=_table(n), timestamp_field="event_timestamp", created_timestamp_column="known_at"
    )
    view = view_of(_table(n), source, features=_FEATURES, ttl=timedelta(days=1))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        store = feature_store(
            folder,
            settings,
            [view],
            project=f"bench_{stores}",
            materialization={"pull_latest_features": True, "online_write_batch_size": 10_000},
            **_STORES[stores],
        )
        with memory_growth() as memory:
            seconds = timed(
                lambda: store.materialize(START, START + timedelta(days=1), [_table(n)])
            )
    print(json.dumps({"seconds": seconds, "growth_mb": memory.growth_mb}))


if __name__ == "__main__":
    stores, n, folder, home, clickhouse_port, redis_port = sys.argv[1:]
    _child(
        stores,
        int(n),
        Path(folder),
        load_settings(
            home=Path(home), clickhouse_port=int(clickhouse_port), redis_port=int(redis_port)
        ),
    )
