"""The words that training, deployment and the worker share: stages, manifests, signals.

A manifest says everything the worker needs to serve one model version. The route of a model names
the versions served side by side: the live one, a canary that has a share of its traffic, a shadow,
and a rejected one under observation.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

from atlas.errors import DeploymentRefused, InvalidInput

__all__ = [
    "ALL",
    "DEPTH_TAG",
    "FEAST_PROJECT",
    "N_PARTITIONS",
    "Manifest",
    "ReadPlan",
    "Route",
    "Signal",
    "Stage",
    "Traffic",
    "ValueKind",
    "feature_hash",
    "route_key",
    "rows_stream",
    "rows_streams",
    "signals_stream",
    "trades",
]

FEAST_PROJECT = "atlas"
"""The project of `feature_repo/feature_store.yaml`; it ends every key of the online store."""

N_PARTITIONS = 16
"""Streams that the rows of a view are spread over by symbol; no more workers can share a view."""

_HOUR_US = 3_600_000_000

DEPTH_TAG = "history_rows"
"""Tag of a Feast view whose last so many rows are kept online for sequence models."""


class Stage(StrEnum):
    """Where a model version stands."""

    REGISTERED = "registered"
    GATED = "gated"
    REJECTED = "rejected"
    SHADOW = "shadow"
    CANARY = "canary"
    """It trades a share of the units of traffic; the live version trades the rest."""
    LIVE = "live"
    RETIRED = "retired"


def feature_hash(view: str, features: Sequence[str]) -> str:
    """Return the hash of a view's name and its features, in the order that a model takes them."""
    text = json.dumps([view, *features], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ValueKind(StrEnum):
    """How the online store holds a value; the words are those of Feast's `Value`."""

    DOUBLE = "double"
    FLOAT = "float"
    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"
    STRING = "string"
    BYTES = "bytes"
    UNIX_TIMESTAMP = "unix_timestamp"
    DOUBLE_LIST = "double_list"
    FLOAT_LIST = "float_list"
    INT32_LIST = "int32_list"
    INT64_LIST = "int64_list"
    BOOL_LIST = "bool_list"
    STRING_LIST = "string_list"
    BYTES_LIST = "bytes_list"
    UNIX_TIMESTAMP_LIST = "unix_timestamp_list"


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What to read of the online store for one feature view; compiled when a model is deployed."""

    project: str
    view: str
    join_keys: tuple[str, ...]
    """In the order in which a key of several values is given."""
    features: tuple[str, ...]
    ttl_us: int
    """Age beyond which a row is stale, in microseconds; 0 means never."""
    key_kinds: tuple[ValueKind, ...] = ()
    """One for each join key; left out, all are strings."""
    kinds: tuple[ValueKind, ...] = ()
    """One for each feature; left out, all are doubles."""
    depth: int = 0
    """So many last rows of each key are kept for sequence models; 0 is none."""

    def __post_init__(self) -> None:
        # Written out, so that plans that mean the same are equal.
        fill = object.__setattr__
        fill(self, "key_kinds", self.key_kinds or (ValueKind.STRING,) * len(self.join_keys))
        fill(self, "kinds", self.kinds or (ValueKind.DOUBLE,) * len(self.features))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return asdict(self)

    @staticmethod
    def of(fields: Mapping[str, Any]) -> ReadPlan:
        """Rebuild from `as_dict`, also of the time when a plan had one join key, a string."""
        known = dict(fields)
        if "join_key" in known:
            known["join_keys"] = (known.pop("join_key"),)
        known["join_keys"] = tuple(known["join_keys"])
        known["features"] = tuple(known["features"])
        for name in ("key_kinds", "kinds"):
            known[name] = tuple(map(ValueKind, known.get(name, ())))
        return ReadPlan(**known)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a canary trades; the unit of traffic is a symbol in an hour (UTC)."""

    share: float = 1.0
    """Of the units, in [0, 1]."""
    split: str = ""
    """Names the split; another name deals the units anew."""
    workers: tuple[str, ...] = ()
    """Workers that let it trade all their units, whatever its share."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:  # NaN fails
            raise InvalidInput(f"Expected a share of traffic from 0 to 1; found {self.share}.")


ALL = Traffic()


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
    """A side is taken when a score lies further than this from the one that favours no side."""
    decision_bars: int
    """Positions change on bars whose close is a whole multiple of so many intervals."""
    golden_rows: tuple[tuple[float | None, ...], ...] = ()
    golden_scores: tuple[float, ...] = ()
    symbols: tuple[str, ...] = ()
    """What it was trained on: it speaks of no other symbol. Empty: of any."""
    task: str = "direction"
    """What a score is: the probability of up, or of a `return` the forecast itself."""
    window: int = 1
    """Rows of a symbol that a score looks at; a golden row has them one after another."""
    share: float = 1.0
    """Of a canary, with the two below: see `Traffic`."""
    split: str = ""
    workers: tuple[str, ...] = ()

    def require_history(self) -> None:
        """Raise unless the view keeps online as many rows of a symbol as a score looks at.

        Raises
        ------
        DeploymentRefused
            If it keeps fewer: no score could ever be told.
        """
        if self.window < 1 or (self.window > 1 and self.plan.depth < self.window):
            raise DeploymentRefused(
                f"Expected view {self.plan.view} to keep the {self.window} last rows of a symbol "
                f"online, which {self.model}/{self.version} looks at; it keeps {self.plan.depth}. "
                "Raise the depth of its feature set, apply it, materialise and train again."
            )

    def speaks_of(self, symbol: str) -> bool:
        """Tell whether the model was judged on this symbol."""
        return not self.symbols or symbol in self.symbols

    def takes(self, symbol: str, event_us: int, worker: str) -> bool:
        """Tell whether a canary trades this row of its model; the live version trades the others.

        A unit stays with whom it was given to while the share grows: its place in [0, 1) is a hash
        of the split, the symbol and the hour, and every place below the share is the canary's.
        """
        if worker in self.workers:
            return True
        unit = f"{self.split}|{symbol}|{event_us // _HOUR_US}".encode()
        digest = hashlib.blake2b(unit, digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.share * 2.0**64

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return asdict(self)

    @staticmethod
    def of(fields: dict[str, Any]) -> Manifest:
        """Rebuild from `as_dict`."""
        return Manifest(
            **{
                **fields,
                "plan": ReadPlan.of(fields["plan"]),
                "stage": Stage(fields["stage"]),
                "golden_rows": tuple(tuple(row) for row in fields["golden_rows"]),
                "golden_scores": tuple(fields["golden_scores"]),
                "symbols": tuple(fields.get("symbols", ())),
                "workers": tuple(fields.get("workers", ())),
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
    canary: Manifest | None = None

    def manifests(self) -> tuple[Manifest, ...]:
        """Return what is served, live first."""
        served = (self.live, self.canary, self.shadow, self.observed)
        return tuple(m for m in served if m is not None)

    def to_json(self) -> str:
        """Return the text kept in Redis."""
        return json.dumps(
            {
                "model": self.model,
                "generation": self.generation,
                "live": self.live.as_dict() if self.live else None,
                "shadow": self.shadow.as_dict() if self.shadow else None,
                "observed": self.observed.as_dict() if self.observed else None,
                "canary": self.canary.as_dict() if self.canary else None,
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
                Manifest.of(fields[place]) if fields.get(place) else None
                for place in ("live", "shadow", "observed", "canary")
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
    """Probability that the upper barrier is touched first, or a forecast return."""
    side: int
    """−1, 0 or +1."""
    decides: bool
    """Whether this bar lies on the model's decision grid, so that the position follows `side`."""
    feature_hash: str
    generation: int


def route_key(model: str) -> str:
    """Return the Redis key of a model's route; it can be rebuilt from the deployment log."""
    return f"atlas:route:{model}"


def rows_stream(view: str, symbol: str) -> str:
    """Return the Redis stream that tells of each new online feature row of a symbol in a view."""
    return rows_streams(view)[zlib.crc32(symbol.encode()) % N_PARTITIONS]


@cache
def rows_streams(view: str) -> tuple[str, ...]:
    """Return all streams of a view's rows, one a partition: workers share them among them."""
    return tuple(f"atlas:rows:{view}:{number}" for number in range(N_PARTITIONS))


def trades(stage: Stage) -> bool:
    """Tell whether signals of this stage are traded on, and so need the permit."""
    return stage in (Stage.LIVE, Stage.CANARY)


def signals_stream(stage: Stage) -> str:
    """Return the Redis stream for signals of a stage; those that trade share `atlas:signals`."""
    return "atlas:signals" if trades(stage) else f"atlas:signals:{stage}"
