"""Profit rows add up to what the judging book says, and those of a split to the desk's."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_market import COSTS, EVERY, MINUTE, MODEL, at, bars, signal

from atlas.book import forward_returns
from atlas.matured import PROFIT_SCHEMA, hourly_returns, trade_returns
from atlas.paper import Position, Profit, decide, earned, settle
from atlas.serving import Signal, Stage

MINUTES = 200

prices = st.dictionaries(
    st.integers(1, MINUTES), st.floats(50, 150), min_size=2, max_size=MINUTES
).map(lambda found: dict(sorted(found.items())))
decisions = st.dictionaries(
    st.integers(1, MINUTES // EVERY).map(lambda n: n * EVERY),
    st.sampled_from([-1, 0, 1]),
    max_size=40,
).map(lambda found: dict(sorted(found.items())))
markets = st.dictionaries(
    st.sampled_from(["A", "B", "C"]), st.tuples(prices, decisions), min_size=1
)


def walk(said: list[Signal], closes: dict[int, float]) -> tuple[Position | None, list[Profit]]:
    """Fill one symbol's decisions where there is a bar."""
    held, rows = None, []
    for each in said:
        minute = (each.event_us - at(0)) // MINUTE.micros
        if minute in closes:
            held, profit = decide(held, each, closes[minute], COSTS)
            rows += [profit] if profit else []
    return held, rows


def settled_rest(held: Position, closes: dict[int, float]) -> Profit:
    """Return what is open still at the moment when the next decision would have been due."""
    times = np.array(list(closes))
    place = np.searchsorted(times, (held.since_us - at(0)) // MINUTE.micros)
    until = forward_returns(np.array(list(closes.values())), times, np.array([place]), EVERY)
    return earned(held, held.price * (1.0 + float(until[0])), held.since_us + 1)


def frame(rows: dict[str, list[Profit]]) -> pl.DataFrame:
    fields = [
        (MODEL, str(r.stage), r.version, symbol, r.from_us, r.to_us, r.side, r.gross, r.cost)
        for symbol, own in rows.items()
        for r in own
    ]
    return pl.DataFrame(fields, schema=PROFIT_SCHEMA, orient="row")


@settings(deadline=None)
@given(markets)
def test_a_version_that_is_live_alone_earns_what_its_book_says(
    market: dict[str, tuple[dict[int, float], dict[int, int]]],
) -> None:
    said: list[Signal] = []
    nets: dict[int, float] = {}
    trades: list[float] = []
    for symbol, (closes, sides) in sorted(market.items()):
        own = [signal(minute, side, symbol) for minute, side in sides.items()]
        said += own
        held, rows = walk(own, closes)
        if held is None:
            continue
        rows.append(settled_rest(held, closes))
        for row in rows:
            hour = row.from_us // 3_600_000_000
            nets[hour] = nets.get(hour, 0.0) + row.net
        trades += list(trade_returns(frame({symbol: rows})))
        # `settle` ends what is open, at a cost; the ledger has no such end.
        nets[hour] -= COSTS.per_side * abs(held.side)
        trades[-1:] = [trades[-1] - COSTS.per_side * abs(held.side)] if held.side else trades[-1:]
    settled = settle(
        said,
        pl.concat([bars(closes, symbol) for symbol, (closes, _) in market.items()]),
        interval=MINUTE,
        decision_bars=EVERY,
        costs=COSTS,
        n_symbols=1,
    )
    hours = settled.period_start.dt.timestamp("us") // 3_600_000_000
    expected = dict(zip(hours, settled.period_returns, strict=True))
    assert {h: nets.get(h, 0.0) for h in expected} == pytest.approx(expected, abs=1e-12)
    assert nets.keys() <= expected.keys()
    assert trades == pytest.approx(list(settled.trade_returns), abs=1e-12)


@settings(deadline=None)
@given(prices, decisions, st.data())
def test_the_routes_of_a_split_add_up_to_the_desk(
    closes: dict[int, float], sides: dict[int, int], data: st.DataObject
) -> None:
    units = {minute // 60 for minute in sides}
    owners = {
        unit: data.draw(st.sampled_from([(Stage.LIVE, 1), (Stage.CANARY, 2)])) for unit in units
    }
    alone = [signal(minute, side) for minute, side in sides.items()]
    split = [
        signal(minute, side, stage=owners[minute // 60][0], version=owners[minute // 60][1])
        for minute, side in sides.items()
    ]
    (_, desk), (_, routes) = walk(alone, closes), walk(split, closes)
    assert [(r.from_us, r.to_us, r.side, r.gross, r.cost) for r in routes] == [
        (r.from_us, r.to_us, r.side, r.gross, r.cost) for r in desk
    ]
    # Each row belongs to whoever owned the symbol when it began.
    assert [(r.stage, r.version) for r in routes] == [
        owners[(r.from_us - at(0)) // 3_600_000_000] for r in routes
    ]


def test_a_position_passes_to_the_next_owner_without_cost() -> None:
    closes = {55: 100.0, 60: 110.0, 65: 121.0}
    said = [
        signal(55, 1),
        signal(60, 1, stage=Stage.CANARY, version=2),
        signal(65, -1, stage=Stage.CANARY, version=2),
    ]
    held, rows = walk(said, closes)
    side = COSTS.per_side
    assert rows == [
        Profit(Stage.LIVE, 1, at(55), at(60), 1, pytest.approx(0.1), side),
        Profit(Stage.CANARY, 2, at(60), at(65), 1, pytest.approx(0.1), 0.0),
    ]
    assert held == Position(Stage.CANARY, 2, -1, 121.0, at(65), 2 * side)


def test_hours_without_a_decision_count_while_a_position_is_held_through_them() -> None:
    rows = [Profit(Stage.LIVE, 1, at(30), at(200), 1, 0.02, 0.01)]
    found = hourly_returns(frame({"A": rows}))
    hour = at(0) // 3_600_000_000
    assert found.rows() == [(hour, pytest.approx(0.01), 1), (hour + 1, 0.0, 1), (hour + 2, 0.0, 1)]
