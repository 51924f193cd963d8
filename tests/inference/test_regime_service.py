"""The regime service tells of each bar what the offline history says, once, whatever happens."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client
from redis import Redis
from regime_market import DAY, HOUR, LATER, START, VIEW, rows, store
from regime_service import Stores

from atlas.bus.regimes import forget_regimes
from atlas.clickhouse import create_feature_table, insert_once
from atlas.clock import from_micros, to_micros
from atlas.errors import StoreUnavailable
from atlas.inference.regimes import SIGNATURE_KEY
from atlas.materialise import compute_regimes
from atlas.online import Status
from atlas.regimes import walk_forward
from atlas.serving import feature_hash

REFIT = 192
"""Hour of the refit whose bars are played live: the start of the ninth day."""
PLAYED = 20
MARKET = {"BTC_USDT": rows(300), "ETH_USDT": rows(300, "ETH_USDT", seed=1)}


@pytest.fixture
def stores(
    redis: Redis, redis_port: int, clickhouse_port: int, clickhouse: Client, tmp_path: Path
) -> Stores:
    """Stores that know the market up to the refit, which is made, and its first bar."""
    found = Stores(redis_port, clickhouse_port, clickhouse.database, tmp_path / "blobs")
    store(clickhouse, [part[:REFIT] for part in MARKET.values()])
    compute_regimes(clickhouse, VIEW, blobs=found.blobs, until=LATER)
    found.keep(bars(0))
    return found


def bars(first: int, last: int | None = None, *symbols: str) -> pl.DataFrame:
    """Bars of the market after the refit: the first is that of the refit's own moment."""
    last = first if last is None else last
    wanted = [MARKET[symbol] for symbol in symbols or MARKET]
    return pl.concat(part[REFIT - 1 + first : REFIT + last] for part in wanted)


def offline(symbol: str, at: int) -> dict[str, object]:
    """What a walk over the whole history says of a bar."""
    told, _ = walk_forward(MARKET[symbol], VIEW.recipe)
    return told.row(REFIT - 1 + at, named=True)


def test_the_feature_row_is_that_of_the_offline_history(stores: Stores) -> None:
    symbols = list(MARKET)
    for at in range(PLAYED):
        stores.look(bars(at))
        found = stores.online(symbols, START + (REFIT + at) * HOUR)
        for place, symbol in enumerate(symbols):
            told = offline(symbol, at)
            numbers = dict(zip(VIEW.plan.features, found.values[place].tolist(), strict=True))
            assert {name: numbers[name] for name in VIEW.features} == {
                name: told[name] for name in VIEW.features
            }
            assert found.columns["model_version"][place] == told["model_version"]
            assert from_micros(int(found.event_ts[place])) == told["event_timestamp"]
        assert (found.status == Status.PRESENT).all()


def test_what_is_told_is_the_steadied_regime(stores: Stores) -> None:
    moved = stores.look(bars(0), bars(1), bars(1), bars(2, 12))
    assert moved == [2, 2, 0, 2]
    for told, symbol in zip(stores.told(*MARKET), MARKET, strict=True):
        history = [offline(symbol, at) for at in range(13)]
        last = [change for change in stores.changes() if change.symbol == symbol][-1]
        assert told is not None
        assert (told.regime, told.since_us) == (last.regime, last.event_us)
        assert told.likeliest == history[-1]["regime"]
        assert told.event_us == to_micros(history[-1]["event_timestamp"])
        assert told.model_version == history[-1]["model_version"]
        assert told.confidence is not None
        assert 0.0 < told.confidence <= 1.0
    confident = [change.confidence for change in stores.changes()]
    assert confident
    assert min(confident) >= 0.70


def test_each_new_row_is_told_of_once_with_its_values(stores: Stores) -> None:
    stores.look(bars(0), bars(1))
    stores.look(bars(1), bars(2))
    entries = stores.notifications()
    told = [(entry[b"symbol"].decode(), int(entry[b"event_us"])) for entry in entries]
    assert sorted(told) == sorted(
        (symbol, to_micros(START + (REFIT + at) * HOUR)) for symbol in MARKET for at in range(3)
    )
    last = next(e for e in reversed(entries) if e[b"symbol"] == b"BTC_USDT")
    assert last[b"feature_hash"].decode() == feature_hash(VIEW.view, VIEW.features)
    row = offline("BTC_USDT", 2)
    assert np.frombuffer(last[b"values"], "<f8").tolist() == [row[name] for name in VIEW.features]


def test_rows_that_redis_lacks_come_from_the_offline_store(
    stores: Stores, clickhouse: Client
) -> None:
    stores.look(bars(0))
    stores.forget_rows(*MARKET)
    store(clickhouse, bars(1, PLAYED - 2))
    # Redis begins anew in the middle of the day.
    assert stores.look(bars(PLAYED - 1)) == [2]
    found = stores.online(["BTC_USDT"], START + (REFIT + PLAYED) * HOUR)
    row = offline("BTC_USDT", PLAYED - 1)
    assert found.values[0, :4].tolist() == [row[name] for name in VIEW.features]


def test_a_gap_that_no_store_can_fill_is_told_and_costs_only_its_symbol(stores: Stores) -> None:
    stores.look(bars(0))
    stores.redis.flushdb()
    # The state is gone too, so all rows since the training are wanted.
    lone = bars(5, 5, "ETH_USDT")
    moved = stores.look(pl.concat([bars(0, 5, "BTC_USDT"), lone]))
    assert moved == [1]
    assert "rows of ETH_USDT" in stores.failing()["regime:ETH_USDT"]
    assert [told is not None for told in stores.told(*MARKET)] == [True, False]
    assert stores.look(bars(1, 5, "ETH_USDT")) == [1]
    assert "regime:ETH_USDT" not in stores.failing()


def test_bars_beyond_the_refit_wait_for_the_next_one(stores: Stores, clickhouse: Client) -> None:
    stores.look(bars(0, 30))
    until = START + REFIT * HOUR + DAY
    told = stores.told("BTC_USDT")[0]
    assert told is not None
    assert from_micros(told.event_us) == until - HOUR
    assert "atlas features regime_1h" in stores.failing()["regime:BTC_USDT"]
    store(clickhouse, bars(1, 30))
    compute_regimes(clickhouse, VIEW, blobs=stores.blobs, until=LATER)
    stores.look(bars(30))
    found = stores.online(["BTC_USDT"], START + (REFIT + 30) * HOUR)
    row = offline("BTC_USDT", 30)
    assert found.values[0, :4].tolist() == [row[name] for name in VIEW.features]
    assert "regime:BTC_USDT" not in stores.failing()


def test_a_symbol_whose_rows_are_spoilt_costs_only_that_symbol(stores: Stores) -> None:
    stores.redis.append(stores.history_key("BTC_USDT"), "odd")
    assert stores.look(bars(1, 1, "ETH_USDT")) == [1]
    assert "row:ohlcv_1h:BTC_USDT" in stores.failing()


def test_nothing_is_lost_or_told_twice_when_redis_fails_in_between(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.look(bars(0))
    with monkeypatch.context() as broken:

        def refuse(*_: object) -> None:
            raise StoreUnavailable("Redis went away.")

        broken.setattr("atlas.inference.regimes.publisher.move_regimes", refuse)
        with pytest.raises(StoreUnavailable):
            stores.look(bars(1))
    # The feature row is there already; state, regime and changes follow in one step.
    assert stores.look(bars(1)) == [2]
    assert len(stores.notifications()) == 2 * len(MARKET)


def peaceful(stores: Stores) -> tuple[object, object, object]:
    """Play all bars at once to an empty desk; return state, changes and what is told."""
    for symbol in MARKET:
        forget_regimes(stores.redis, VIEW.view, [symbol])
    stores.redis.delete(f"atlas:regimes:{VIEW.view}")
    stores.look(bars(0, PLAYED))
    return outcome(stores)


def outcome(stores: Stores) -> tuple[object, object, object]:
    changes = sorted(stores.changes(), key=lambda change: (change.symbol, change.event_us))
    return stores.states(), changes, stores.told(*MARKET)


def test_killed_at_any_moment_the_service_ends_where_one_in_peace_does(
    stores: Stores, clickhouse: Client, tmp_path: Path
) -> None:
    store(clickhouse, bars(1, PLAYED))
    program = Path(__file__).parents[1] / "regime_service.py"
    arguments = [stores.redis_port, stores.clickhouse_port, stores.database, stores.blob_folder]
    chance = random.Random(3)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(program), *map(str, arguments)])

    process = start()
    wait_for(stores, 0)
    for at in range(1, PLAYED + 1):
        stores.keep(bars(at))
        if at % 7 == 0:
            time.sleep(chance.uniform(0, 0.02))
            process.kill()
            process.wait()
            process = start()
    wait_for(stores, PLAYED)
    process.kill()
    process.wait()
    found = outcome(stores)
    assert found == peaceful(stores)


def wait_for(stores: Stores, at: int) -> None:
    wanted = to_micros(START + (REFIT + at) * HOUR)
    deadline = time.monotonic() + 60
    while not all(told and told.event_us == wanted for told in stores.told(*MARKET)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_loop_waits_for_no_model_while_five_hundred_symbols_are_told(
    stores: Stores, clickhouse: Client
) -> None:
    history, checkpoints = walk_forward(MARKET["BTC_USDT"][:REFIT], VIEW.recipe)
    assert stores.blobs.get(checkpoints[-1].stamp.split("-")[1])
    symbols = [f"SYM_{number}" for number in range(500)]
    create_feature_table(clickhouse, VIEW.view, VIEW.kinds)
    stamp = pl.DataFrame({"symbol": symbols}).join(history[-1:].drop("symbol"), how="cross")
    insert_once(clickhouse, VIEW.view, stamp.to_arrow())
    first = MARKET["BTC_USDT"][REFIT - 40 : REFIT + 1]
    wide = pl.DataFrame({"symbol": symbols}).join(first.drop("symbol"), how="cross")
    newest = wide["event_timestamp"].max()
    lags: list[float] = []

    async def looks() -> list[int]:
        done = asyncio.Event()

        async def beat() -> None:
            while not done.is_set():
                asked = time.perf_counter()
                await asyncio.sleep(0.005)
                lags.append(time.perf_counter() - asked - 0.005)

        moved = []
        watch = asyncio.create_task(beat())
        async with stores.service() as service:
            for part in (wide.filter(pl.col("event_timestamp") < newest), wide):
                await asyncio.to_thread(stores.keep, part)
                moved.append(await service.look())
        done.set()
        await watch
        return moved

    for _ in range(3):  # a busy machine may stop the whole process for as long, now and then
        lags.clear()
        forget_regimes(stores.redis, VIEW.view, [*symbols, *MARKET])
        stores.redis.delete(*map(stores.history_key, symbols))
        assert asyncio.run(looks()) == [502, 500]
        assert len(lags) > 10
        if max(lags) < 0.1:
            break
    assert max(lags) < 0.1


def test_the_service_without_a_model_does_nothing_but_sign(
    redis: Redis, redis_port: int, clickhouse_port: int, database: str, tmp_path: Path
) -> None:
    stores = Stores(redis_port, clickhouse_port, database, tmp_path / "blobs")
    assert stores.look(bars(0)) == [0]
    assert redis.exists(SIGNATURE_KEY)
    assert stores.failing() == {}
    assert stores.told(*MARKET) == [None, None]


def test_a_market_that_was_set_back_is_told_anew(stores: Stores) -> None:
    stores.look(bars(0, 10))
    for symbol in MARKET:
        forget_regimes(stores.redis, VIEW.view, [symbol])
    stores.forget_rows(*MARKET)
    assert stores.look(bars(0)) == [2]
    told = stores.told("BTC_USDT")[0]
    assert told is not None
    assert told.event_us == to_micros(START + REFIT * HOUR)


def test_the_program_signs_and_ends_when_it_is_asked_to(
    redis: Redis, redis_port: int, clickhouse_port: int, database: str, tmp_path: Path
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ATLAS_")},
        "ATLAS_HOME": str(tmp_path),
        "ATLAS_REDIS_PORT": str(redis_port),
        "ATLAS_CLICKHOUSE_PORT": str(clickhouse_port),
        "ATLAS_CLICKHOUSE_DATABASE": database,
        "ATLAS_REGIME_PERIOD": "PT0.05S",
    }
    command = [sys.executable, "-W", "error", "-m", "atlas.inference.regimes"]
    with subprocess.Popen(command, env=environment) as process:
        deadline = time.monotonic() + 60
        while redis.get(SIGNATURE_KEY) != str(process.pid).encode():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
