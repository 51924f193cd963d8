"""The broker fills decisions once, at their bar's close, and none of the desk's during a halt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random

import polars as pl
import pytest
from clickhouse_connect.driver.client import Client
from paper_market import COSTS, EVERY, MINUTE, MODEL, at, bars, signal, store
from redis import Redis

from atlas.bus import grant, publish, revoke
from atlas.paper import DESK, Broker, PaperLedger, Position, Status, earned, settle
from atlas.serving import Stage

OPEN = Callable[..., Broker]
CLOSES = [100.0 + minute for minute in range(1, 31)]


def outcomes(ledger: PaperLedger) -> list[tuple[str, int, int, str, str]]:
    """Return of each order its stage, minute, side, status and why."""
    return [
        (str(o.stage), (o.event_us - at(0)) // MINUTE.micros, o.side, str(o.status), o.reason)
        for o in ledger.orders()
    ]


def drain(broker: Broker) -> None:
    while broker.step():
        pass


def test_a_live_version_earns_on_paper_what_settling_its_signals_says(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    random = Random(1)
    symbols = ("A", "B", "C")
    frames = []
    for symbol in symbols:
        minutes = sorted(random.sample(range(1, 400), 350))
        frames.append(bars({m: random.uniform(50, 150) for m in minutes}, symbol))
    said = [
        signal(minute, random.choice((-1, 0, 1)), symbol)
        for minute in range(1, 400)
        for symbol in symbols
        if random.random() < 0.9
    ]
    store(clickhouse, frames)
    broker = open_broker(ledger, patience=timedelta(0))
    for begin in range(0, len(said), 100):
        publish(redis, said[begin : begin + 100])
        broker.step()
    drain(broker)
    rows = ledger.profits(MODEL, stage=Stage.LIVE, version=1)
    everything = pl.concat(frames)
    settled = settle(
        said, everything, interval=MINUTE, decision_bars=EVERY, costs=COSTS, n_symbols=1
    )
    # What is open still, and its end at a cost, are settled and not yet in the ledger.
    rest = 0.0
    for (_, _, symbol), held in ledger.positions().items():
        own = everything.filter(pl.col("symbol") == symbol)
        due = own.filter(
            pl.col("event_timestamp").dt.timestamp("us") >= held.since_us + 300_000_000
        )
        last = (due.head(1) if due.height else own.tail(1))["close"].item()
        rest += earned(held, last, held.since_us + 300_000_000).net
        rest -= COSTS.per_side * abs(held.side)
    net = float((rows["gross"] - rows["cost"]).sum()) + rest
    assert rows.height > 150
    assert net == pytest.approx(settled.net_return, abs=1e-12)
    decided = sum(each.decides for each in said)
    assert len(ledger.orders()) == decided
    statuses = {o.status for o in ledger.orders()}
    assert statuses == {Status.FILLED, Status.UNPRICED}


def test_a_live_version_and_its_canary_trade_one_position_and_add_up_to_the_desk(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    random = Random(2)
    closes = [random.uniform(50, 150) for _ in range(600)]
    store(clickhouse, [bars(closes, symbol) for symbol in ("A", "B")])
    broker = open_broker(ledger)
    said = []
    for symbol in ("A", "B"):
        owners = [random.choice(((Stage.LIVE, 1), (Stage.CANARY, 2))) for _ in range(11)]
        for minute in range(5, 600, 5):
            stage, version = owners[minute // 60]
            side = random.choice((-1, 0, 1))
            said.append(signal(minute, side, symbol, stage=stage, version=version))
    publish(redis, said)
    drain(broker)
    found = ledger.profits()
    live, canary = (found.filter(pl.col("stage") == stage) for stage in ("live", "canary"))
    assert min(live.height, canary.height) > 50
    assert live.height + canary.height == found.height
    desk = settle(
        said,
        pl.concat([bars(closes, symbol) for symbol in ("A", "B")]),
        interval=MINUTE,
        decision_bars=EVERY,
        costs=COSTS,
        n_symbols=1,
    )
    # The last decision was made at minute 595, and is due again at 600.
    open_still = ledger.positions().values()
    rest = sum(
        earned(held, closes[599], at(600)).net - COSTS.per_side * abs(held.side)
        for held in open_still
    )
    net = [float((own["gross"] - own["cost"]).sum()) for own in (live, canary)]
    assert sum(net) + rest == pytest.approx(desk.net_return, abs=1e-12)


def test_signals_that_decide_nothing_make_no_order(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    store(clickhouse, [bars(CLOSES)])
    publish(redis, [signal(minute, 1) for minute in (4, 5, 6)])
    drain(open_broker(ledger))
    assert outcomes(ledger) == [("live", 5, 1, "filled", "")]
    assert ledger.positions() == {
        (MODEL, DESK, "A"): Position(Stage.LIVE, 1, 1, 105.0, at(5), COSTS.per_side)
    }
    assert ledger.profits().is_empty()


def test_an_order_waits_for_its_bar_and_holds_up_only_its_own_book(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    store(clickhouse, [bars(CLOSES, "B"), bars({10: 110.0}, "A")])
    publish(redis, [signal(5, 1, "A"), signal(5, 1, "B"), signal(10, 0, "A"), signal(10, 0, "B")])
    broker = open_broker(ledger)
    drain(broker)
    assert [(o.symbol, str(o.status)) for o in ledger.orders()] == [
        ("A", "waiting"),
        ("B", "filled"),
        ("A", "waiting"),
        ("B", "filled"),
    ]
    store(clickhouse, [bars({5: 100.0}, "A")])
    drain(broker)
    assert {o.status for o in ledger.orders()} == {Status.FILLED}
    assert ledger.profits().filter(pl.col("symbol") == "A").rows() == [
        (MODEL, "live", 1, "A", at(5), at(10), 1, pytest.approx(0.1), COSTS.per_side)
    ]


def test_a_bar_that_never_comes_leaves_the_position_as_it_was(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    store(clickhouse, [bars({5: 100.0, 15: 120.0})])
    publish(redis, [signal(5, 1), signal(10, -1), signal(15, 0)])
    drain(open_broker(ledger, patience=timedelta(0)))
    assert outcomes(ledger) == [
        ("live", 5, 1, "filled", ""),
        ("live", 10, -1, "unpriced", "its bar did not come"),
        ("live", 15, 0, "filled", ""),
    ]
    assert ledger.profits().rows() == [
        (MODEL, "live", 1, "A", at(5), at(15), 1, pytest.approx(0.2), COSTS.per_side)
    ]


def test_a_halt_changes_no_position_of_the_desk_and_shadows_go_on(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    store(clickhouse, [bars(CLOSES)])
    broker = open_broker(ledger)
    publish(redis, [signal(5, 1)])
    drain(broker)
    # It left before the halt, and comes to the broker after it.
    shadow = signal(10, -1, stage=Stage.SHADOW, version=2)
    publish(redis, [signal(10, -1), shadow])
    revoke(redis, "ada")
    drain(broker)
    grant(redis, "ada")
    publish(redis, [signal(15, -1)])
    drain(broker)
    halted = "halted: the permit to trade was absent"
    assert outcomes(ledger) == [
        ("live", 5, 1, "filled", ""),
        ("live", 10, -1, "refused", halted),
        ("live", 15, -1, "filled", ""),
        ("shadow", 10, -1, "filled", ""),
    ]
    assert [(key[1], held.side) for key, held in sorted(ledger.positions().items())] == [
        ("desk", -1),
        ("shadow/2", -1),
    ]


def test_an_order_of_a_halt_is_not_filled_by_a_bar_that_comes_after_the_release(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    broker = open_broker(ledger)
    publish(redis, [signal(5, 1)])
    revoke(redis, "ada")
    drain(broker)
    grant(redis, "ada")
    store(clickhouse, [bars(CLOSES)])
    drain(broker)
    assert [str(o.status) for o in ledger.orders()] == ["refused"]
    assert ledger.positions() == {}


def test_a_market_that_is_wound_back_is_not_traded_twice(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    store(clickhouse, [bars(CLOSES)])
    broker = open_broker(ledger)
    publish(redis, [signal(5, 1), signal(10, 0)])
    drain(broker)
    redis.delete(f"atlas:last:{MODEL}:live")
    publish(redis, [signal(5, -1), signal(10, -1), signal(15, -1)])
    drain(broker)
    late = "late: its book has decided on a bar as new or newer"
    assert outcomes(ledger)[2:] == [
        ("live", 5, -1, "refused", late),
        ("live", 10, -1, "refused", late),
        ("live", 15, -1, "filled", ""),
    ]


def test_a_version_that_the_log_does_not_know_is_refused(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    publish(redis, [signal(5, 1, version=77)])
    drain(open_broker(ledger))
    assert outcomes(ledger) == [
        ("live", 5, 1, "refused", "unknown: no such version in the deployment log")
    ]


def test_a_new_live_version_takes_over_the_position_and_a_new_shadow_begins_flat(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client
) -> None:
    store(clickhouse, [bars(CLOSES)])
    shadows = [
        signal(5, 1, stage=Stage.SHADOW, version=2),
        signal(10, 1, stage=Stage.SHADOW, version=3),
    ]
    publish(redis, [signal(5, 1), signal(10, 1, version=2), *shadows])
    drain(open_broker(ledger))
    assert {o.stage: [] for o in ledger.orders()}.keys() == {Stage.LIVE, Stage.SHADOW}
    costs = [(str(o.stage), o.version, o.cost) for o in ledger.orders()]
    side = COSTS.per_side
    assert costs == [("live", 1, side), ("live", 2, 0.0), ("shadow", 2, side), ("shadow", 3, side)]


def test_two_brokers_at_once_fill_each_order_once(
    ledger: PaperLedger, open_broker: OPEN, redis: Redis, clickhouse: Client, url: str
) -> None:
    store(clickhouse, [bars(CLOSES)])
    publish(redis, [signal(minute, minute % 2, "A") for minute in range(1, 31)])
    first, second = open_broker(ledger), open_broker(PaperLedger(url))
    while first.step() + second.step():
        pass
    assert [str(o.status) for o in ledger.orders()] == ["filled"] * 6
    assert ledger.profits().height == 5
