"""What a regime view is: whose rows a jump model reads, and when it is fitted anew.

This declares; `atlas.regimes` computes, with the engine that this floor may not know.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import timedelta

from atlas.errors import InvalidInput
from atlas.features.feature_set import FeatureSet
from atlas.features.ohlcv import ohlcv
from atlas.features.stored_view import StoredView
from atlas.market import Interval
from atlas.schemas.features import RegimeFeatures

__all__ = ["RegimeInput", "RegimeRecipe", "RegimeSet", "regime"]

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class RegimeInput:
    """One feature that the jump model reads."""

    name: str
    log: bool = False
    """Whether its logarithm is read: volatilities are then near to normal. 0 becomes null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeRecipe:
    """How regimes are found; equal recipes on equal rows give equal regimes.

    Refits lie on one grid for all, whole multiples of `refit_every` from Monday 1970-01-05, UTC:
    what a row says does not depend on when it was computed.
    """

    inputs: tuple[RegimeInput, ...]
    """The first one orders the names: at a symbol's first fit state 0 has the lowest of it."""
    n_states: int
    penalty: float
    """Cost of a change of state, in half squared standard deviations."""
    clip: float = 3.0
    """Standard deviations from the mean beyond which a value counts as that far."""
    ridge: float = 1e-4
    """Regularises the covariance: each variance is raised by this share of its mean square."""
    window: timedelta
    """How far back a fit looks."""
    refit_every: timedelta
    min_rows: int
    """Rows with all inputs that a fit needs; before, and where the window has fewer, no regime."""
    n_starts: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.inputs or min(self.window, self.refit_every) <= timedelta(0):
            raise InvalidInput(
                "Expected inputs, and a window and a time between refits above zero; found "
                f"{len(self.inputs)} inputs, {self.window} and {self.refit_every}."
            )
        if self.min_rows < self.n_states or not self.clip > 0 or not self.ridge >= 0:
            raise InvalidInput(
                f"Expected at least {self.n_states} rows, one a state, a clip above 0 and a ridge "
                f"from 0; found min_rows {self.min_rows}, clip {self.clip} and ridge {self.ridge}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(each.name for each in self.inputs)

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides on a regime, but for the rows."""
        facts = asdict(self) | {
            "window": self.window // _MICROSECOND,
            "refit_every": self.refit_every // _MICROSECOND,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RegimeSet(StoredView):
    """A view of regimes, found in the stored rows of another view.

    It has no finite look-back: names and model come from all refits before. Its history is that of
    a desk that ran all along, see `atlas.regimes`.
    """

    source: FeatureSet
    recipe: RegimeRecipe


def regime(interval: Interval) -> RegimeSet:
    """Return the regimes of bars of that interval, for markets that never close."""
    return RegimeSet(
        name="regime",
        interval=interval,
        schema=RegimeFeatures,
        description="Regime of a statistical jump model: walk-forward refits, online filter.",
        source=ohlcv(interval),
        recipe=RegimeRecipe(
            inputs=(
                RegimeInput("realised_vol_30", log=True),
                RegimeInput("realised_vol_120", log=True),
                RegimeInput("return_24h"),
                RegimeInput("rsi_14"),
            ),
            n_states=2,
            penalty=10.0,
            window=timedelta(days=90),
            refit_every=timedelta(days=7),
            min_rows=720,
        ),
    )
