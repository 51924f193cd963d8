"""What signals earned: decisions only, filled at the close, held until the next, net of costs."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.clock import to_micros
from atlas.fills import Costs
from atlas.market import interval_of
from atlas.paper import settle
from atlas.serving import Signal, Stage

MINUTE = interval_of("1m")
START = datetime(2024, 1, 1, tzinfo=UTC)
COSTS = Costs(fee_bps=5.0, half_spread_bps=1.0, slippage_bps=1.0)
EVERY = 5


def bars(closes: list[float], symbol: str = "A") -> pl.DataFrame:
    moments = pl.Series(
        [START + timedelta(minutes=i + 1) for i in range(len(closes))]
    ).dt.cast_time_unit("us")
    prices = pl.Series(closes, dtype=pl.Float64)
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(closes),
            "event_timestamp": moments,
            "known_at": moments,
            "open": prices,
            "high": prices,
            "low": prices,
            "close": prices,
            "volume": prices,
        }
    )


def signal(minute: int, side: int, symbol: str = "A") -> Signal:
    return Signal(
        model="m",
        version=1,
        stage=Stage.LIVE,
        symbol=symbol,
        event_us=to_micros(START + timedelta(minutes=minute)),
        score=0.5 + side * 0.2,
        side=side,
        decides=minute % EVERY == 0,
        feature_hash="h",
        generation=1,
    )


def naive(closes: list[float], sides: dict[int, int]) -> float:
    """Walk bar by bar with one unit, as a person would."""
    total, held, last = 0.0, 0, len(closes)
    decisions = sorted(m for m in sides if m % EVERY == 0 and m <= last)
    for place, minute in enumerate(decisions):
        side = sides[minute]
        following = decisions[place + 1] if place + 1 < len(decisions) else minute + EVERY
        until = min(following, last)
        total -= abs(side - held) * COSTS.per_side
        total += side * (closes[until - 1] / closes[minute - 1] - 1)
        held = side
        if place == len(decisions) - 1:
            total -= abs(held) * COSTS.per_side
    return total


@given(
    st.lists(st.floats(50, 150), min_size=12, max_size=60),
    st.dictionaries(st.integers(1, 60), st.sampled_from([-1, 0, 1]), max_size=60),
)
def test_the_sum_equals_a_walk_by_hand(closes: list[float], sides: dict[int, int]) -> None:
    known = {m: s for m, s in sides.items() if m <= len(closes)}
    settled = settle(
        [signal(m, s) for m, s in known.items()],
        bars(closes),
        interval=MINUTE,
        decision_bars=EVERY,
        costs=COSTS,
    )
    assert settled.net_return == pytest.approx(naive(closes, known), abs=1e-12)
    assert settled.trade_returns.sum() == pytest.approx(settled.net_return, abs=1e-12)
    assert settled.signals == len(known)
    assert settled.decisions == sum(m % EVERY == 0 for m in known)


def test_symbols_share_the_notional() -> None:
    up = [100.0 + i for i in range(12)]
    both = pl.concat([bars(up, "A"), bars(up, "B")])
    one = settle(
        [signal(5, 1)], bars(up), interval=MINUTE, decision_bars=EVERY, costs=COSTS
    ).net_return
    two = settle(
        [signal(5, 1, "A"), signal(5, 1, "B")],
        both,
        interval=MINUTE,
        decision_bars=EVERY,
        costs=COSTS,
    )
    assert two.net_return == pytest.approx(one)
    assert two.trade_returns.size == 2


def test_a_jump_over_a_gap_is_paid() -> None:
    whole = bars([100.0] * 10 + [60.0] * 10)
    held = whole[:6].vstack(whole[11:])  # bars 7 to 11 are missing, and the price fell meanwhile
    settled = settle([signal(5, 1)], held, interval=MINUTE, decision_bars=EVERY, costs=COSTS)
    assert settled.net_return == pytest.approx(-0.4 - 2 * COSTS.per_side)


def test_a_symbol_without_a_decision_keeps_its_share_of_the_notional() -> None:
    closes = [100.0 + i for i in range(12)]
    alone = settle([signal(5, 1)], bars(closes), interval=MINUTE, decision_bars=EVERY, costs=COSTS)
    fifth = settle(
        [signal(5, 1)],
        bars(closes),
        interval=MINUTE,
        decision_bars=EVERY,
        costs=COSTS,
        n_symbols=5,
    )
    assert fifth.net_return == pytest.approx(alone.net_return / 5)


def test_nothing_is_earned_without_a_signal() -> None:
    settled = settle([], bars([1.0, 2.0]), interval=MINUTE, decision_bars=EVERY, costs=COSTS)
    assert settled.net_return == 0.0
    assert np.isnan(settled.win_rate)
    assert settled.period_start.is_empty()
