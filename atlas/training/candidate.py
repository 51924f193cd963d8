"""What is put forward to the gates: features, a target, costs, and how wide the search is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from atlas.features import FeatureSet
from atlas.fills import Costs
from atlas.market import model_name
from atlas.training.labels import Target, default_target

__all__ = ["Candidate", "SearchPlan", "candidate_for"]

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How a candidate is searched."""

    n_trials: int = 24
    n_folds: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """One model to be trained and judged."""

    features: FeatureSet
    target: Target
    costs: Costs
    search: SearchPlan = field(default_factory=SearchPlan)

    @property
    def model(self) -> str:
        """Name under which its versions are registered."""
        return model_name("direction", self.features.name, self.features.interval)

    @property
    def service(self) -> str:
        """Name of its Feast feature service."""
        return f"direction_{self.features.view}"

    @property
    def period(self) -> timedelta:
        """Length of a return period: an hour, or a day where decisions are rarer than hourly."""
        decision = self.target.decision_bars * self.features.interval.delta
        return timedelta(hours=1) if decision <= timedelta(hours=1) else _DAY

    @property
    def embargo_bars(self) -> int:
        """Bars left out after a test block: as many as the longest feature window."""
        return self.features.lookback // self.features.interval.delta


def candidate_for(features: FeatureSet, *, search: SearchPlan | None = None) -> Candidate:
    """Return the default candidate of a feature set: crypto taker costs, half-hourly decisions."""
    return Candidate(
        features=features,
        target=default_target(features.interval),
        costs=Costs.crypto_taker(),
        search=search or SearchPlan(),
    )
