"""The words that training, deployment and the worker share: stages, manifests, signals.

A manifest says everything the worker needs to serve one model version. The route of a model names
the versions served side by side: the live one, a shadow, and a rejected one under observation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = [
    "Manifest",
    "ReadPlan",
    "Route",
    "Signal",
    "Stage",
    "feature_hash",
    "route_key",
    "rows_stream",
    "signals_stream",
]


class Stage(StrEnum):
    """Where a model version stands."""

    REGISTERED = "registered"
    GATED = "gated"
    REJECTED = "rejected"
    SHADOW = "shadow"
    LIVE = "live"
    RETIRED = "retired"


def feature_hash(view: str, features: Sequence[str]) -> str:
    """Return the hash of a view's name and its features, in the order that a model takes them."""
    text = json.dumps([view, *features], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What to read of the online store for one feature view; compiled when a model is deployed."""

    project: str
    view: str
    join_key: str
    features: tuple[str, ...]
    ttl_us: int
    """Age beyond which a row is stale, in microseconds; 0 means never."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that the worker needs to serve one model version."""

    model: str
    version: int
    stage: Stage
    generation: int
    engine: str
    blob: str
    """SHA-256 of the model's bytes, which is also their name in the blob store."""
    plan: ReadPlan
    feature_hash: str
    interval: str
    threshold: float
    """A side is taken when the probability of up lies further than this from one half."""
    decision_bars: int
    """Positions change on bars whose close is a whole multiple of so many intervals."""
    golden_rows: tuple[tuple[float | None, ...], ...] = ()
    golden_scores: tuple[float, ...] = ()
    symbols: tuple[str, ...] = ()
    """What it was trained on: it speaks of no other symbol. Empty: of any."""

    def speaks_of(self, symbol: str) -> bool:
        """Tell whether the model was judged on this symbol."""
        return not self.symbols or symbol in self.symbols

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return asdict(self)

    @staticmethod
    def of(fields: dict[str, Any]) -> Manifest:
        """Rebuild from `as_dict`."""
        plan = ReadPlan(**{**fields["plan"], "features": tuple(fields["plan"]["features"])})
        return Manifest(
            **{
                **fields,
                "plan": plan,
                "stage": Stage(fields["stage"]),
                "golden_rows": tuple(tuple(row) for row in fields["golden_rows"]),
                "golden_scores": tuple(fields["golden_scores"]),
                "symbols": tuple(fields.get("symbols", ())),
            }
        )


@dataclass(frozen=True, slots=True)
class Route:
    """The versions of one model that are served side by side."""

    model: str
    generation: int
    live: Manifest | None = None
    shadow: Manifest | None = None
    observed: Manifest | None = field(default=None)
    """A rejected version whose predictions are watched; they never reach the signal stream."""

    def manifests(self) -> tuple[Manifest, ...]:
        """Return what is served, live first."""
        return tuple(m for m in (self.live, self.shadow, self.observed) if m is not None)

    def to_json(self) -> str:
        """Return the text kept in Redis."""
        return json.dumps(
            {
                "model": self.model,
                "generation": self.generation,
                "live": self.live.as_dict() if self.live else None,
                "shadow": self.shadow.as_dict() if self.shadow else None,
                "observed": self.observed.as_dict() if self.observed else None,
            }
        )

    @staticmethod
    def from_json(text: str | bytes) -> Route:
        """Rebuild from `to_json`."""
        fields = json.loads(text)
        return Route(
            fields["model"],
            fields["generation"],
            *(
                Manifest.of(fields[s]) if fields[s] else None
                for s in ("live", "shadow", "observed")
            ),
        )


@dataclass(frozen=True, slots=True)
class Signal:
    """What a model says of one symbol at one feature row."""

    model: str
    version: int
    stage: Stage
    symbol: str
    event_us: int
    """Event time of the feature row, in microseconds."""
    score: float
    """Probability that the upper barrier is touched first."""
    side: int
    """−1, 0 or +1."""
    decides: bool
    """Whether this bar lies on the model's decision grid, so that the position follows `side`."""
    feature_hash: str
    generation: int


def route_key(model: str) -> str:
    """Return the Redis key of a model's route; it can be rebuilt from the deployment log."""
    return f"atlas:route:{model}"


def rows_stream(view: str) -> str:
    """Return the Redis stream that tells of each new online feature row of a view."""
    return f"atlas:rows:{view}"


def signals_stream(stage: Stage) -> str:
    """Return the Redis stream for signals of a stage; only live ones reach `atlas:signals`."""
    return "atlas:signals" if stage is Stage.LIVE else f"atlas:signals:{stage}"
