"""How a question over HTTP is answered: what does this model say of these symbols now?

An answer is computed of the newest rows, exactly as a signal is, but it is no signal: it is neither
published nor recorded, and a halt does not concern it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from atlas.inference.candidate import ServedModel
from atlas.inference.lineup import Lineups
from atlas.inference.opinion_batches import EnquiryRefused, Opinion, OpinionBatches
from atlas.serving import Manifest, Stage

__all__ = ["Answer", "Enquiries", "EnquiryRefused"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model version says of all symbols asked for, in their order."""

    manifest: Manifest
    opinions: tuple[Opinion, ...]
    latency_us: int


class Enquiries:
    """Answers questions with the models in service."""

    def __init__(self, lineups: Lineups, batches: OpinionBatches) -> None:
        self._lineups = lineups
        self._batches = batches

    async def ask(self, model: str, symbols: Sequence[str], stage: Stage | None = None) -> Answer:
        """Return what a model says: its version at that stage, or else the one nearest to live.

        Raises
        ------
        EnquiryRefused
            503 when no version serves, 404 for a symbol without a row, 409 for a stale row, 422
            for a row that is not fit to be scored, 500 where the model fails. One such symbol
            refuses the whole question.
        StoreUnavailable
            If Redis does not answer.
        """
        started = time.perf_counter_ns()
        served = self._serving(model, stage)
        manifest = served.manifest
        for symbol in symbols:
            if not manifest.speaks_of(symbol):
                raise EnquiryRefused(
                    404,
                    f"{manifest.model}/{manifest.version} was trained on "
                    f"{', '.join(manifest.symbols)}; it says nothing of {symbol}.",
                )
        opinions = await self._batches.ask(served, symbols)
        latency_us = (time.perf_counter_ns() - started) // 1_000
        return Answer(manifest, tuple(opinions), latency_us)

    def _serving(self, model: str, stage: Stage | None) -> ServedModel:
        lineup = self._lineups.of_model(model)
        models = lineup.models if lineup else ()
        for served in models:  # live first
            if stage is None or served.manifest.stage is stage:
                return served
        names = sorted(name for name, lineup in self._lineups if lineup.models)
        raise EnquiryRefused(
            503,
            f"Expected a {stage or 'served'} version of model {model!r}; found none. "
            f"In service: {', '.join(names) or 'no model'}. Deploy one with `atlas deploy`.",
        )
