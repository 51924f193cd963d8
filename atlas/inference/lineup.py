"""Which model versions serve at this moment; replaced whole in one assignment, never edited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from atlas.inference.candidate import ServedModel
from atlas.serving import ReadPlan, Stage

__all__ = ["Lineup", "Lineups", "Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of a view: models that agree on it share one read and one batch."""

    plan: ReadPlan
    window: int
    """Rows of a symbol that a score looks at."""

    @staticmethod
    def of(served: ServedModel) -> Reading:
        """Return what a model is given."""
        return Reading(served.manifest.plan, served.manifest.window)


@dataclass(frozen=True, slots=True)
class Lineup:
    """The versions of one model that serve side by side."""

    generation: int
    """Of the route that it came from."""
    models: tuple[ServedModel, ...]

    def at(self, stage: Stage) -> ServedModel | None:
        """Return the version at a stage."""
        return next((m for m in self.models if m.manifest.stage is stage), None)


@dataclass(frozen=True, slots=True)
class _Served:
    by_model: Mapping[str, Lineup]
    by_view: Mapping[str, Mapping[Reading, tuple[ServedModel, ...]]]


class Lineups:
    """Holds the line-up of every model, and the one before it.

    A reader takes what it needs once per batch; a swap between two batches is one assignment, so
    no batch sees half of it. The former line-up is kept, so that a rollback need not fetch.
    """

    def __init__(self) -> None:
        self._served = _Served(MappingProxyType({}), MappingProxyType({}))
        self._former: dict[str, Lineup] = {}

    def __iter__(self) -> Iterator[tuple[str, Lineup]]:
        return iter(self._served.by_model.items())

    @property
    def views(self) -> frozenset[str]:
        """The feature views that some model in service reads."""
        return frozenset(self._served.by_view)

    def of_model(self, model: str) -> Lineup | None:
        """Return what serves under a model's name."""
        return self._served.by_model.get(model)

    def of_view(self, view: str) -> Mapping[Reading, tuple[ServedModel, ...]]:
        """Return the models that read a view, by what they read of it."""
        return self._served.by_view.get(view, {})

    def loaded(self, model: str, blob: str) -> ServedModel | None:
        """Return a version of a model that is in service, or was before the last swap."""
        for lineup in (self._served.by_model.get(model), self._former.get(model)):
            for served in lineup.models if lineup else ():
                if served.manifest.blob == blob:
                    return served
        return None

    def swap(self, model: str, lineup: Lineup) -> None:
        """Put a line-up in service and keep the former one."""
        former = self._served.by_model.get(model)
        by_model = {**self._served.by_model, model: lineup}
        by_view: dict[str, dict[Reading, tuple[ServedModel, ...]]] = {}
        for each in by_model.values():
            for served in each.models:
                reading = Reading.of(served)
                readings = by_view.setdefault(reading.plan.view, {})
                readings[reading] = (*readings.get(reading, ()), served)
        self._served = _Served(
            MappingProxyType(by_model),
            MappingProxyType({view: MappingProxyType(found) for view, found in by_view.items()}),
        )
        if former is not None:
            self._former[model] = former
