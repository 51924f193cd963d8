"""The regime walk in plain loops: what a desk would have done, Monday by Monday, bar by bar."""

import itertools
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from atlas.engines import JumpModel
from atlas.features import RegimeRecipe

MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
Row = dict[str, Any]


def slow_walk(versions: pl.DataFrame, recipe: RegimeRecipe) -> list[tuple[Any, ...]]:
    """Return event, known_at, regime, level, gap, age and the refit's moment, of each bar."""
    rows = versions.to_dicts()
    times = sorted({row["event_timestamp"] for row in rows})
    told: list[tuple[Any, ...]] = []
    former = None
    at = MONDAY
    while at + recipe.refit_every <= times[0]:
        at += recipe.refit_every
    while at <= times[-1]:
        stop = at + recipe.refit_every
        here = [row for row in _latest(rows, before=stop) if row["event_timestamp"] >= at]
        if here:
            known = _latest([row for row in rows if row["known_at"] < at], before=at)
            training = [row for row in known if row["event_timestamp"] >= at - recipe.window]
            full = [row for row in training if not any(map(math.isnan, _read(row, recipe)))]
            if len(full) < recipe.min_rows:
                told += [(r["event_timestamp"], r["known_at"], *[None] * 5) for r in here]
            else:
                desk = _Desk(training, recipe, at, former)
                if former is not None and former.at + recipe.refit_every == at:
                    for row in known:
                        if row["event_timestamp"] > former.end:
                            former.move(row)
                    desk.regime, desk.age = former.regime, former.age
                latest = None
                # A copy goes on to be asked at the next refit, with what is known by then.
                former = _Desk(training, recipe, at, former)
                former.regime, former.age = desk.regime, desk.age
                for row in _latest(rows, before=stop):
                    if row["event_timestamp"] <= desk.end:
                        continue
                    latest = max(filter(None, (latest, row["known_at"])))
                    regime, level, gap, age = desk.move(row)
                    if row["event_timestamp"] >= at:
                        told.append((row["event_timestamp"], latest, regime, level, gap, age, at))
        at = stop
    return told


def _latest(rows: list[Row], *, before: datetime) -> list[Row]:
    newest: dict[datetime, Row] = {}
    for row in rows:
        event = row["event_timestamp"]
        if event < before and (event not in newest or newest[event]["known_at"] < row["known_at"]):
            newest[event] = row
    return [newest[event] for event in sorted(newest)]


def _read(row: Row, recipe: RegimeRecipe) -> list[float]:
    values = []
    for each in recipe.inputs:
        value = row[each.name]
        if value is None or (each.log and value <= 0):
            values.append(math.nan)
        else:
            values.append(float(np.log(value)) if each.log else value)
    return values


class _Desk:
    """One refit's model, in the plainest form."""

    def __init__(
        self, training: list[Row], recipe: RegimeRecipe, at: datetime, former: "_Desk | None"
    ) -> None:
        self.recipe, self.at, self.end = recipe, at, training[-1]["event_timestamp"]
        rows = np.array([_read(row, recipe) for row in training])
        self.mean = np.nanmean(rows, axis=0)
        square = np.nanmean(rows**2, axis=0)
        self.spread = np.sqrt(np.nanvar(rows, axis=0) + recipe.ridge * square)
        model = JumpModel(
            recipe.n_states, recipe.penalty, n_starts=recipe.n_starts, seed=recipe.seed
        ).fit(np.array([self._scaled(row) for row in rows]))
        found = model.centroids_
        assert not np.isnan(found).any(), "the planted rows are to have all regimes in any window"
        if former is None:
            order = sorted(range(len(found)), key=lambda k: found[k][0])
        else:
            before = [
                (old * former.spread + former.mean - self.mean) / self.spread
                for old in former.centroids
            ]
            order = min(
                itertools.permutations(range(len(found))),
                key=lambda o: sum(
                    ((found[k] - old) ** 2).sum() for k, old in zip(o, before, strict=True)
                ),
            )
        self.centroids = found[list(order)]
        self.values = [0.0] * len(found)
        self.regime: int | None = None
        self.age = -1
        for row in rows:
            self._step(self._scaled(row))

    def move(self, row: Row) -> tuple[Any, ...]:
        values = _read(row, self.recipe)
        self._step(self._scaled(np.array(values)))
        state = self.values.index(min(self.values))
        self.age = self.age + 1 if self.regime in (None, state) else 0
        self.regime = state
        if all(map(math.isnan, values)):
            return None, None, None, None
        level = self.centroids[state][0] * self.spread[0] + self.mean[0]
        level = math.exp(level) if self.recipe.inputs[0].log else level
        return state, level, sorted(self.values)[1] - min(self.values), self.age

    def _scaled(self, row: np.ndarray) -> np.ndarray:
        limit = self.recipe.clip
        return np.array(
            [
                min(max((x - m) / s, -limit), limit) if not math.isnan(x) else math.nan
                for x, m, s in zip(row, self.mean, self.spread, strict=True)
            ]
        )

    def _step(self, row: np.ndarray) -> None:
        if all(map(math.isnan, row)):
            return
        cheapest = min(self.values)
        self.values = [
            min(value, cheapest + self.recipe.penalty)
            + 0.5 * sum((x - c) ** 2 for x, c in zip(row, centre, strict=True) if not math.isnan(x))
            for value, centre in zip(self.values, self.centroids, strict=True)
        ]
