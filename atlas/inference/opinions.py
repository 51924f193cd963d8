"""What models say of rows, and which of a model's versions speaks of which row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from atlas.decision import centre_of, on_grid, sides
from atlas.inference.candidate import ServedModel
from atlas.inference.lane import Scored
from atlas.inference.vectors import Chosen
from atlas.serving import Signal, Stage

__all__ = ["Opinion", "divide", "opine"]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one model says of a batch."""

    model: ServedModel
    signals: tuple[Signal, ...]
    took_us: int = 0
    error: Exception | None = None
    n_scored: int = 0
    """Rows that it has a score of, whether or not it is to speak of them."""
    n_failed: int = 0


def opine(model: ServedModel, chosen: Chosen, scored: Scored) -> Opinion:
    """Turn scores into the signals of one model, of the rows that it scored and speaks of."""
    manifest, scores = model.manifest, scored.scores
    event_us = np.array([row.event_us for row in chosen.rows], dtype=np.int64)
    side = sides(scores, manifest.threshold, centre=centre_of(manifest.task))
    decides = on_grid(event_us, model.interval_us, manifest.decision_bars)
    scored_rows = np.flatnonzero(~np.isnan(scores))
    # The gates judged it on its own symbols; of others it keeps silent.
    told = [i for i in scored_rows if manifest.speaks_of(chosen.rows[i].symbol)]
    signals = tuple(
        Signal(
            model=manifest.model,
            version=manifest.version,
            stage=manifest.stage,
            symbol=chosen.rows[i].symbol,
            event_us=chosen.rows[i].event_us,
            score=float(scores[i]),
            side=int(side[i]),
            decides=bool(decides[i]),
            feature_hash=manifest.feature_hash,
            generation=manifest.generation,
        )
        for i in told
    )
    n_scored = len(scored_rows)
    return Opinion(model, signals, scored.took_us, scored.error, n_scored, len(scores) - n_scored)


def divide(opinions: Sequence[Opinion], worker: str) -> list[Opinion]:
    """Let one of a model's live version and its canary speak of each row, by whose unit it is.

    Where the canary has nothing to say of a row of its own, since it failed or was too slow, the
    live version speaks: a bad candidate costs the desk no signal.
    """
    divided: list[Opinion] = []
    taken: set[tuple[str, str, int]] = set()
    # The canaries first: what they do not say is left to the others.
    for opinion in sorted(opinions, key=lambda one: one.model.manifest.stage is not Stage.CANARY):
        manifest = opinion.model.manifest
        if manifest.stage is Stage.CANARY:
            kept = tuple(s for s in opinion.signals if manifest.takes(s.symbol, s.event_us, worker))
            taken.update((s.model, s.symbol, s.event_us) for s in kept)
        elif taken:
            kept = tuple(s for s in opinion.signals if (s.model, s.symbol, s.event_us) not in taken)
        else:
            kept = opinion.signals
        divided.append(replace(opinion, signals=kept))
    return divided
