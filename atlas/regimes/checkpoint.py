"""What one refit leaves: all that is needed to tell the regimes until the next one."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Self

import numpy as np

from atlas.clock import from_micros, to_micros
from atlas.engines import JumpModel
from atlas.errors import ArtifactCorrupt, InvalidInput
from atlas.regimes.scale import Scale

__all__ = ["Carried", "Checkpoint", "blob_of", "refit_of"]

_FORMAT = "atlas-regime/1"
_STAMP = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-([0-9a-f]{64})")
_MOMENT = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes on through a refit: the regime that was known at it, and its age in bars."""

    regime: int
    age: int


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model fitted at one moment, with its scale and what it takes over from the one before.

    It is made of what was known before `refit_at` and never changes afterwards.
    """

    refit_at: datetime
    inputs: tuple[str, ...]
    scale: Scale
    model: JumpModel
    trained_until: datetime
    """Event time of the last training row: the online state stands there."""
    carried: Carried | None
    """None where no regime was known just before."""
    evidence: str
    """SHA-256 of recipe, training rows, former stamp and what was carried."""
    former: str | None
    """Stamp of the symbol's checkpoint before."""

    def dump(self) -> bytes:
        """Return the checkpoint as JSON; equal ones give equal bytes."""
        return json.dumps(
            {
                "format": _FORMAT,
                "refit_us": to_micros(self.refit_at),
                "inputs": list(self.inputs),
                "mean": self.scale.mean.tolist(),
                "spread": self.scale.spread.tolist(),
                "clip": self.scale.clip,
                "model": self.model.dump().decode(),
                "trained_until_us": to_micros(self.trained_until),
                "carried": [self.carried.regime, self.carried.age] if self.carried else None,
                "evidence": self.evidence,
                "former": self.former,
            },
            sort_keys=True,
            allow_nan=False,
        ).encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Rebuild from `dump`; no code of theirs is run.

        Raises
        ------
        ArtifactCorrupt
            If the bytes are not a checkpoint.
        """
        try:
            facts = json.loads(data)
            if facts["format"] != _FORMAT:
                raise ValueError(f"format {facts['format']!r}")
            found = cls(
                refit_at=from_micros(facts["refit_us"]),
                inputs=tuple(facts["inputs"]),
                scale=Scale(np.array(facts["mean"]), np.array(facts["spread"]), facts["clip"]),
                model=JumpModel.load(facts["model"].encode()),
                trained_until=from_micros(facts["trained_until_us"]),
                carried=Carried(*facts["carried"]) if facts["carried"] else None,
                evidence=facts["evidence"],
                former=facts["former"],
            )
            if found.dump() != data:
                raise ValueError("bytes that it does not write")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise ArtifactCorrupt(
                f"Expected a regime checkpoint; found {data[:40]!r} ({error!r:.200}). Restore the "
                "blob from a backup, or compute the view anew with --rebuild."
            ) from error
        return found

    @cached_property
    def stamp(self) -> str:
        """The model version of the rows it tells: moment of the refit, and hash of the bytes.

        Later refits have later stamps, as text too; the hash is the name in the blob store.
        """
        return f"{self.refit_at:{_MOMENT}}-{hashlib.sha256(self.dump()).hexdigest()}"


def blob_of(stamp: str) -> str:
    """Return the name of a stamp's checkpoint in the blob store."""
    return _parts(stamp)[1]


def refit_of(stamp: str) -> datetime:
    """Return when the model of a stamp was fitted."""
    return datetime.strptime(_parts(stamp)[0], _MOMENT).replace(tzinfo=UTC)


def _parts(stamp: str) -> tuple[str, str]:
    found = _STAMP.fullmatch(stamp)
    if found is None:
        raise InvalidInput(
            f"Expected the stamp of a regime model, a moment and a SHA-256; found {stamp!r}."
        )
    return found[1], found[2]
