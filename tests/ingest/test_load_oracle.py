"""Any sequence of loads against a slow dictionary of what must be stored."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import NOW, START, batch, bits, rows

from atlas.ingest import load_candles
from atlas.market import BAR_COLUMNS

VALUES = BAR_COLUMNS[3:]
MICRO = timedelta(microseconds=1)
Key = tuple[str, datetime]


@dataclass
class Oracle:
    """What the tables must hold, kept row by row in plain Python."""

    versions: dict[Key, list[tuple[datetime, tuple[bytes, ...]]]] = field(default_factory=dict)
    quarantine: set[tuple[str, int, frozenset[str]]] = field(default_factory=set)
    first_versions: Counter[str] = field(default_factory=Counter)
    later_versions: Counter[str] = field(default_factory=Counter)

    def load(self, load_id: str, given_rows, *, now: datetime, delay: timedelta):
        """Return what the report must say: inserted, corrected, unchanged, quarantined."""
        wrong = {n: frozenset(broken_rules(row, now)) for n, row in enumerate(given_rows, 1)}
        good: dict[Key, dict[int, tuple[bytes, ...]]] = {}
        for number, row in enumerate(given_rows, 1):
            if not wrong[number]:
                key = (row["symbol"], row["event_timestamp"])
                good.setdefault(key, {})[number] = tuple(bits(row[name]) for name in VALUES)
        inserted = corrected = unchanged = 0
        for key, candidates in good.items():
            if len(set(candidates.values())) > 1:
                wrong |= {number: frozenset({"ambiguous"}) for number in candidates}
                continue
            value = next(iter(candidates.values()))
            unchanged += len(candidates) - 1
            stored = self.versions.setdefault(key, [])
            if not stored:
                stored.append((key[1] + delay, value))
                inserted += 1
            elif stored[-1][1] != value:
                stored.append((max(now, stored[-1][0] + MICRO), value))
                corrected += 1
            else:
                unchanged += 1
        bad = {(load_id, number, rules) for number, rules in wrong.items() if rules}
        self.quarantine |= bad
        self.first_versions[load_id] += inserted
        self.later_versions[load_id] += corrected
        return inserted, corrected, unchanged, len(bad)


def broken_rules(row: dict[str, Any], now: datetime):
    prices = [row[name] for name in ("open", "high", "low", "close")]
    for name, value in zip(VALUES, [*prices, row["volume"]], strict=True):
        least = 0.0 if name == "volume" else math.ulp(0.0)
        if value is None or not (least <= value < math.inf):
            yield name
    if all(price is not None and math.isfinite(price) for price in prices):
        if row["high"] < max(prices):
            yield "high"
        if row["low"] > min(prices):
            yield "low"
    if (row["event_timestamp"] - START) % timedelta(minutes=1):
        yield "grid"
    if row["event_timestamp"] > now:
        yield "clock"


# The names of the rules, out of the reasons that the quarantine gives.
WORDS = {
    **{f"{name} {told}": name for name in VALUES for told in ("is missing", "is NaN")},
    **{f"{name} {told}": name for name in VALUES for told in ("is not finite", "is not above 0.0")},
    "volume is below 0.0": "volume",
    "high is below open, close or low": "high",
    "low is above open, close or high": "low",
    "event_timestamp is off the 1m grid": "grid",
    "event_timestamp is beyond the clock": "clock",
    "different candles of one bar in one load": "ambiguous",
}

prices = st.sampled_from([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 0.1 + 0.2, 0.0, math.nan, math.inf, None])
# Highs and lows that mostly hold the others between them.
bar_rows = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["A", "A", "B"]),
        "event_timestamp": st.sampled_from(
            [*(START + timedelta(minutes=n) for n in range(1, 5)), START + timedelta(seconds=90)]
        ),
        "open": prices,
        "high": st.sampled_from([2.0, 2.0, 2.0, 2.0, 3.0, 0.5]),
        "low": st.sampled_from([0.3, 0.3, 0.3, 0.3, 0.1, 2.5]),
        "close": st.sampled_from([1.0, 1.0, 2.0]),
        "volume": st.sampled_from([0.0, 0.0, 0.0, -0.0, 5.0, -1.0]),
    }
)
contents = st.lists(bar_rows, min_size=1, max_size=8)


@st.composite
def sequences(draw):
    """Loads of a few contents, some of them again and again, while the clock goes on."""
    pool = draw(st.lists(contents, min_size=1, max_size=4))
    chosen = draw(st.lists(st.sampled_from(range(len(pool))), min_size=1, max_size=5))
    clocks = st.sampled_from([START + timedelta(minutes=2), START + timedelta(minutes=3), NOW])
    moments = sorted(draw(st.lists(clocks, min_size=len(chosen), max_size=len(chosen))))
    return [(pool[n], now) for n, now in zip(chosen, moments, strict=True)]


fresh = itertools.count()


def check_loads(client, loads, delay):
    example = next(fresh)
    oracle = Oracle()
    # A symbol of the example's own stands for an empty table.
    names = {name: f"{name}{example}" for name in ("A", "B")}
    for content, now in loads:
        given_rows = [row | {"symbol": names[row["symbol"]]} for row in content]
        load = batch(*given_rows, source=f"example {example}")
        report = load_candles(client, load, now=now, source_delay=delay)
        expected = oracle.load(load.load_id, given_rows, now=now, delay=delay)
        found = (report.inserted, report.corrected, report.unchanged, report.quarantined)
        assert found == expected
        assert sum(found) == report.rows_read == len(content)
    assert stored_versions(client, names.values()) == sorted(
        (*key, known_at, *value)
        for key, versions in oracle.versions.items()
        for known_at, value in versions
    )
    assert stored_quarantine(client, example) == sorted(
        (load_id, number, sorted(rules)) for load_id, number, rules in oracle.quarantine
    )
    assert stored_ledger(client, example) == sorted(
        (load_id, count, oracle.later_versions[load_id])
        for load_id, count in oracle.first_versions.items()
    )


def stored_versions(client, symbols):
    wanted = ", ".join(f"'{symbol}'" for symbol in symbols)
    found = rows(client, f"SELECT {', '.join(BAR_COLUMNS)} FROM bars_1m WHERE symbol IN ({wanted})")
    return sorted((*row[:3], *map(bits, row[3:])) for row in found)


def stored_quarantine(client, example):
    found = rows(
        client,
        f"SELECT load_id, row_number, reason FROM quarantine WHERE source = 'example {example}'",
    )
    return sorted(
        (load_id, number, sorted({WORDS[part] for part in reason.split("; ")}))
        for load_id, number, reason in found
    )


def stored_ledger(client, example):
    return sorted(
        rows(
            client,
            "SELECT load_id, sum(inserted), sum(corrected) FROM loads "
            f"WHERE source = 'example {example}' GROUP BY load_id",
        )
    )


delays = st.sampled_from([timedelta(0), timedelta(seconds=90)])
# The database is the test's, the symbols are the example's.
shared_database = HealthCheck.function_scoped_fixture


@settings(max_examples=12, deadline=None, suppress_health_check=[shared_database])
@given(loads=sequences(), delay=delays)
def test_any_sequence_of_loads_leaves_what_the_oracle_says(clickhouse, loads, delay):
    check_loads(clickhouse, loads, delay)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=[shared_database])
@given(loads=sequences(), delay=delays)
def test_very_many_sequences_of_loads_leave_what_the_oracle_says(clickhouse, loads, delay):
    check_loads(clickhouse, loads, delay)
