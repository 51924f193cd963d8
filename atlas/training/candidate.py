"""What is put forward to the gates: features, target, costs, engine, and how it is searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, get_args

from atlas.engines import Profile, Task, engine_class, profile_of
from atlas.errors import InvalidInput
from atlas.features import FeatureSet
from atlas.fills import Costs
from atlas.market import model_name
from atlas.training.labels import Target, default_target

__all__ = ["Candidate", "Sampler", "SearchPlan", "candidate_for", "plan_of"]

Sampler = Literal["tpe", "nsga2"]
Selection = Literal["walk_forward", "combinatorial"]

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How a candidate is searched.

    History is cut into `n_folds + 1` blocks that are walked forward. The first `n_selection` folds
    tell which trial is best; the others are the record that the gates judge, and neither the
    sampler nor the choice ever sees it.

    Parameters
    ----------
    n_trials : int
        Most trials.
    n_folds : int
        Folds walked forward in all.
    n_selection : int
        How many of them, the earliest, trials are chosen by.
    selection : str
        `walk_forward`, or `combinatorial`: every choice of two of six blocks of the same span is
        tested on a model of the other four (purged, embargoed). It costs more fits, and wastes
        less of a short history.
    sampler : str
        `tpe` seeks a high Sharpe ratio. `nsga2`, a genetic algorithm, seeks the front between a
        high Sharpe ratio and a small drawdown; the best Sharpe ratio on the front is chosen.
    batch : int
        Trials proposed together. The result depends on it, not on how many processes share a batch.
    prune : bool
        Whether a trial below the median of the earlier ones is spared its other selection folds.
        It is never chosen then, but walks the judged folds all the same: overfitting is a property
        of the whole search.
    time_budget : timedelta or None
        No batch begins after it; the trials until then count.
    seed : int
        Of the proposals and of the engines.

    Raises
    ------
    InvalidInput
        If a number is out of range.
    """

    n_trials: int = 24
    n_folds: int = 6
    n_selection: int = 2
    selection: Selection = "walk_forward"
    sampler: Sampler = "tpe"
    batch: int = 4
    prune: bool = True
    time_budget: timedelta | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.n_trials > 0 and self.batch > 0 and 0 < self.n_selection < self.n_folds):
            raise InvalidInput(
                "Expected at least one trial a batch and in all, and 0 < n_selection < n_folds; "
                f"found {self.n_trials} trials in batches of {self.batch}, {self.n_selection} of "
                f"{self.n_folds} folds for selection."
            )
        if self.selection not in get_args(Selection) or self.sampler not in get_args(Sampler):
            raise InvalidInput(
                f"Expected selection {' or '.join(get_args(Selection))} and sampler "
                f"{' or '.join(get_args(Sampler))}; found {self.selection!r} and {self.sampler!r}."
            )


def plan_of(profile: Profile, *, seed: int = 0, **changes: Any) -> SearchPlan:
    """Return a profile's search: `verify` is 10 trials on 3 folds."""
    small = {"n_trials": 10, "n_folds": 3, "n_selection": 1} if profile == "verify" else {}
    return SearchPlan(**{**small, "seed": seed, **changes})


@dataclass(frozen=True)
class Candidate:
    """One model to be trained and judged."""

    features: FeatureSet
    target: Target
    costs: Costs
    search: SearchPlan = field(default_factory=SearchPlan)
    engine: str = "xgboost"
    """A name of the catalogue, or `package.module:Class`."""
    profile: Profile = "full"
    """`verify` shows within minutes that everything works; its models are not for trading."""
    task: Task = "direction"

    @property
    def model(self) -> str:
        """Name under which its versions are registered, whichever engine they are of."""
        return model_name(self.task, self.features.name, self.features.interval)

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

    @property
    def looks_back(self) -> bool:
        """Whether a score looks at more than one row, so that training needs every bar's."""
        return int(engine_class(self.engine)(**self.settled).window) > 1

    @property
    def settled(self) -> Mapping[str, Any]:
        """Hyperparameters of the engine that are not searched."""
        known: dict[str, Any] = dict(profile_of(self.engine, self.profile))
        parameters = engine_class(self.engine)().hyperparameters
        if "device" in parameters:
            known["device"] = "auto"
        if "seed" in parameters:
            known["seed"] = self.search.seed
        if "embargo" in parameters:
            known["embargo"] = self.embargo_bars
        if "cost_bps" in parameters:
            known["cost_bps"] = 1e4 * self.costs.per_side
        if self.task != "direction":
            if "task" not in parameters:
                raise InvalidInput(
                    f"Expected an engine that can learn the {self.task}; {self.engine} tells the "
                    "direction only. Take xgboost, lstm or transformer."
                )
            known["task"] = self.task
        return known


def candidate_for(
    features: FeatureSet,
    *,
    search: SearchPlan | None = None,
    engine: str = "xgboost",
    profile: Profile = "full",
    task: Task = "direction",
) -> Candidate:
    """Return the default candidate of a feature set: crypto taker costs, half-hourly decisions.

    Raises
    ------
    InvalidInput
        If there is no such engine, or it cannot learn that task.
    """
    candidate = Candidate(
        features=features,
        target=default_target(features.interval),
        costs=Costs.crypto_taker(),
        search=search or plan_of(profile),
        engine=engine,
        profile=profile,
        task=task,
    )
    _ = candidate.settled  # refuses now what would fail after the data was read
    return candidate
