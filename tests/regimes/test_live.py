"""The live path says of each bar what the walk through history says, wherever it is interrupted."""

import itertools
from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import DAY, HOUR, RECIPE, START, versions

from atlas.clock import to_micros
from atlas.errors import ArtifactCorrupt, FeatureMismatch
from atlas.features import regime
from atlas.market import interval_of
from atlas.regimes import (
    Checkpoint,
    Held,
    LiveRegime,
    RegimeRow,
    Rows,
    SteadyRules,
    walk_forward,
)

VIEW = replace(regime(interval_of("1h")), recipe=RECIPE)
RULES = SteadyRules()
N = 200


def rows_of(frame: pl.DataFrame) -> Rows:
    return Rows(
        frame["event_timestamp"].dt.timestamp("us").to_numpy(),
        frame["known_at"].dt.timestamp("us").to_numpy(),
        frame.select(RECIPE.names).cast(pl.Float64).fill_null(np.nan).to_numpy(),
    )


def holed() -> pl.DataFrame:
    """Bars with nulls, a bar of nulls alone, and a hole."""
    frame = versions(N)
    at = pl.int_range(pl.len())
    nulls = (at == 150) | (at % 23 == 5)
    return frame.with_columns(
        pl.when(at == 150).then(None).otherwise(pl.col("realised_vol_30")).alias("realised_vol_30"),
        pl.when(nulls).then(None).otherwise(pl.col("return_24h")).alias("return_24h"),
    ).filter(~at.is_in([160, 161]))


FRAME = holed()
ROWS = rows_of(FRAME)
HISTORY, CHECKPOINTS = walk_forward(FRAME, RECIPE)


def stretch(checkpoint: Checkpoint) -> tuple[datetime, datetime]:
    return checkpoint.refit_at, checkpoint.refit_at + RECIPE.refit_every


def offline(checkpoint: Checkpoint) -> list[RegimeRow]:
    first, last = stretch(checkpoint)
    told = HISTORY.filter(pl.col("event_timestamp").is_between(first, last, closed="left"))
    return [
        RegimeRow(
            to_micros(row["event_timestamp"]),
            to_micros(row["known_at"]),
            row["regime"],
            row["regime_level"],
            row["regime_gap"],
            row["regime_age"],
        )
        for row in told.iter_rows(named=True)
    ]


def one_by_one(live: LiveRegime, rows: Rows) -> list[RegimeRow]:
    found = []
    for at in range(len(rows)):
        moved = live.update(Rows(*(part[at : at + 1] for part in vars_of(rows))))
        if moved is not None and moved.row is not None:
            found.append(moved.row)
    return found


def vars_of(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rows.event_us, rows.known_us, rows.inputs


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda each: f"{each.refit_at:%d}")
def test_each_bar_is_told_as_history_tells_it(checkpoint: Checkpoint) -> None:
    live = LiveRegime(VIEW, checkpoint, RULES)
    found = one_by_one(live, ROWS)
    assert found == offline(checkpoint)
    assert len(found) >= 9


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, len(ROWS)), max_size=6))
def test_a_restart_anywhere_changes_nothing(cuts: list[int]) -> None:
    checkpoint = CHECKPOINTS[-2]
    whole = LiveRegime(VIEW, checkpoint, RULES)
    whole.update(ROWS)
    live, changes = LiveRegime(VIEW, checkpoint, RULES), []
    for cut in sorted({*cuts, len(ROWS)}):
        # Whatever was read already comes again, as after a restart.
        moved = live.update(Rows(*(part[:cut] for part in vars_of(ROWS))))
        changes += moved.changes if moved else ()
        live = LiveRegime(VIEW, checkpoint, RULES).restore(live.snapshot())
    assert live.snapshot() == whole.snapshot()
    again = LiveRegime(VIEW, checkpoint, RULES).update(ROWS)
    assert again is not None
    assert changes == list(again.changes)


def test_what_is_told_goes_on_through_a_refit() -> None:
    live = LiveRegime(VIEW, CHECKPOINTS[0], RULES)
    changes, before = [], None
    for checkpoint in CHECKPOINTS:
        live = LiveRegime(VIEW, checkpoint, RULES)
        if before is not None:
            live.restore(before)
        moved = live.update(ROWS)
        assert moved is not None
        changes += moved.changes
        before = live.snapshot()
    names = [change.regime for change in changes]
    assert [change.former for change in changes] == [None, *names[:-1]]
    assert all(one != two for one, two in itertools.pairwise(names))
    moments = [change.event_us for change in changes]
    assert moments == sorted(set(moments))


def test_a_row_of_empty_inputs_changes_nothing_that_is_told() -> None:
    checkpoint = CHECKPOINTS[-1]
    first = to_micros(checkpoint.refit_at)
    steady = rows_of(versions(N, which=np.ones(N, int)))
    live = LiveRegime(VIEW, checkpoint, SteadyRules(min_dwell=DAY * 0))
    live.update(steady.after(live.event_us, before=first + 1))
    hour = HOUR // DAY.resolution

    def move(after: int, *inputs: float) -> object:
        at = np.array([first + after * hour])
        moved = live.update(Rows(at, at, np.array([inputs])))
        assert moved is not None
        return moved.steadied.held

    assert move(1, np.nan, np.nan) is Held.INPUTS
    assert move(2, 0.0, 0.0) is Held.INPUTS
    assert move(3, np.exp(-3.0), 0.0) is not Held.INPUTS


def test_bars_that_were_not_there_are_told() -> None:
    checkpoint = CHECKPOINTS[0]
    live = LiveRegime(VIEW, checkpoint, RULES)
    at = np.array([live.event_us + 4 * (HOUR // DAY.resolution)])
    moved = live.update(Rows(at, at, np.array([[0.02, 0.0]])))
    assert moved is not None
    assert moved.gap_bars == 3


def test_no_refit_speaks_of_the_bars_of_the_next() -> None:
    checkpoint = CHECKPOINTS[0]
    live = LiveRegime(VIEW, checkpoint, RULES)
    live.update(ROWS)
    assert live.event_us < live.until_us == to_micros(stretch(checkpoint)[1])
    assert checkpoint.refit_at > START
    assert live.update(ROWS) is None


def test_a_model_of_other_inputs_is_refused() -> None:
    with pytest.raises(FeatureMismatch, match="fitted to realised_vol_30, return_24h"):
        LiveRegime(regime(interval_of("1h")), CHECKPOINTS[0], RULES)


@pytest.mark.parametrize("snapshot", ["", "{}", '{"format": "atlas-regime-live/1"}', "[]"])
def test_what_is_no_snapshot_is_refused(snapshot: str) -> None:
    with pytest.raises(ArtifactCorrupt):
        LiveRegime(VIEW, CHECKPOINTS[0], RULES).restore(snapshot)
