"""How a refit is made: from what was known before it, and from nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.clock import from_micros, to_micros
from atlas.engines import JumpModel
from atlas.engines.jump_learned import read_learned, write_learned
from atlas.features.regimes import RegimeRecipe
from atlas.regimes.checkpoint import Carried, Checkpoint
from atlas.regimes.follow import last_of
from atlas.regimes.inputs import known_before, matrix
from atlas.regimes.scale import Scale

__all__ = ["Evidence", "fit", "gather"]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that a refit may look at."""

    refit_at: datetime
    rows: NDArray[np.float64]
    """Training rows, shape (n_rows, n_inputs), in order of time."""
    trained_until: datetime
    carried: Carried | None
    former: Checkpoint | None
    digest: str
    """Equal digests give equal checkpoints."""


def gather(
    versions: pl.DataFrame, recipe: RegimeRecipe, *, at: datetime, former: Checkpoint | None
) -> Evidence | None:
    """Return what was known before `at`; None if that is too little for a fit.

    Parameters
    ----------
    versions : frame
        Rows of one symbol, event_timestamp, known_at and the inputs, in all their versions, that
        reach back for `recipe.window` and another `recipe.refit_every` before `at`.
    former : Checkpoint or None
        The symbol's checkpoint before, whose names are kept.
    """
    known = known_before(versions, at)
    training = known.filter(pl.col("event_timestamp") >= at - recipe.window)
    rows = matrix(training, recipe)
    if np.count_nonzero(~np.isnan(rows).any(axis=1)) < recipe.min_rows:
        return None
    # Over a time without rows or without a model no regime is carried.
    adjacent = former is not None and former.refit_at + recipe.refit_every == at
    carried = last_of(former, known, recipe) if former is not None and adjacent else None
    facts: list[Any] = [
        recipe.digest,
        to_micros(at),
        former.stamp if former is not None else None,
        [carried.regime, carried.age] if carried is not None else None,
    ]
    digest = hashlib.sha256(json.dumps(facts).encode())
    times = training["event_timestamp"].dt.timestamp("us").to_numpy()
    # As they are stored: a logarithm may have other last bits on another machine.
    stored = training.select(pl.col(recipe.names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    digest.update(times.astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(stored, "<f8").tobytes())
    return Evidence(at, rows, from_micros(int(times[-1])), carried, former, digest.hexdigest())


def fit(evidence: Evidence, recipe: RegimeRecipe) -> Checkpoint:
    """Fit a model to what was known, and give its states the names that they had before."""
    scale = Scale.of(evidence.rows, clip=recipe.clip, ridge=recipe.ridge)
    former = evidence.former
    model = JumpModel(recipe.n_states, recipe.penalty, n_starts=recipe.n_starts, seed=recipe.seed)
    if former is None:
        model = _by_first_input(model.fit(scale.apply(evidence.rows)))
    else:
        # Distances between centroids mean something in one scale only.
        names = scale.adopt(former.model, former.scale)
        model.fit(scale.apply(evidence.rows), former=names)
    return Checkpoint(
        refit_at=evidence.refit_at,
        inputs=recipe.names,
        scale=scale,
        model=model,
        trained_until=evidence.trained_until,
        carried=evidence.carried,
        evidence=evidence.digest,
        former=former.stamp if former is not None else None,
    )


def _by_first_input(model: JumpModel) -> JumpModel:
    """Name the states by their first centroid, lowest first, so that symbols can be compared."""
    recipe, learned = read_learned(model.dump())
    order = np.argsort(learned.centroids[:, 0], kind="stable")  # NaN, a state without rows, last
    named = replace(
        learned,
        centroids=learned.centroids[order],
        anchors=learned.anchors[order],
        occupancy=learned.occupancy[order],
        values=learned.values[order],
        state=int(np.flatnonzero(order == learned.state)[0]),
    )
    return JumpModel.load(write_learned(named, recipe))
