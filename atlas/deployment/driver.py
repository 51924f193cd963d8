"""Who carries out a strategy: writes the log, then the route, waits, looks, and takes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from atlas.deployment.desk import Desk, publish_route
from atlas.deployment.observation import Conclusion, Intent, Observation, Outcome, Strategy
from atlas.deployment.observer import BusObserver, Observer
from atlas.errors import DeploymentRefused, StaleGeneration, StoreUnavailable
from atlas.serving import Manifest, Route, Stage, Traffic, trades
from atlas.telemetry import get_logger

__all__ = ["Driver"]

log = get_logger(__name__)

# Registrations of other versions may come in between; each try means that one has.
_TRIES = 10


class Driver:
    """Walks a version through a strategy.

    Parameters
    ----------
    desk : Desk
        Makes the moves, in somebody's name.
    observer : callable or None
        Gives the observer of a model; by default the one that looks at Redis.
    poll : timedelta
        Time between two looks.
    on_look : callable
        Is told each intent and what was seen, to show progress.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        observer: Callable[[str], Observer] | None = None,
        poll: timedelta = timedelta(seconds=0.5),
        on_look: Callable[[Intent, Observation], None] = lambda intent, seen: None,
    ) -> None:
        self._desk = desk
        self._observer = observer or (lambda model: BusObserver(desk.redis, model))
        self._poll = poll
        self._on_look = on_look

    def deploy(self, model: str, version: int, strategy: Strategy, *, why: str = "") -> Conclusion:
        """Carry out the strategy to its end and return how it ended.

        A candidate that is rolled back as a shadow or canary is gated again; one that is rolled
        back from live makes room for the former live version. When this is interrupted, one that
        trades is taken back too, as nobody would watch it. As a shadow it then stays.

        Raises
        ------
        DeploymentRefused
            If the version did not pass its gates, is live already, or is displaced meanwhile.
        StaleGeneration
            If another deployment of the model began at the same time.
        StoreUnavailable
            If SQL or Redis does not answer when something must be written.
        """
        state = self._desk.log.state(model)
        if state.live and state.live.version == version:
            raise DeploymentRefused(f"Expected {model}/{version} not to be live; it is already.")
        placed: Intent | None = None
        try:
            conclusion: Conclusion | None = None
            intent = next(strategy)
            observer = self._observer(model)
            while conclusion is None:
                if intent != placed:
                    # The first move must find the model as it was read: of two who begin at
                    # once, one wins. Later ones must find the version where this one put it.
                    expected = state.generation if placed is None else None
                    generation = self._place(model, intent, why, expected)
                    placed, since = intent, time.monotonic()
                waited = timedelta(seconds=time.monotonic() - since)
                seen = _look(observer, intent, generation, waited)
                self._on_look(intent, seen)
                try:
                    intent = strategy.send(seen)
                except StopIteration as end:
                    conclusion = end.value
                else:
                    if intent == placed:
                        time.sleep(self._poll.total_seconds())
        except BaseException:
            if placed is not None and trades(placed.stage):
                self._take_back(model, version, "its deployment was interrupted")
            raise
        if conclusion.outcome is Outcome.ROLLED_BACK:
            self._take_back(model, version, conclusion.why)
        log.info(
            "deployment_ended",
            model=model,
            version=version,
            outcome=str(conclusion.outcome),
            why=conclusion.why,
        )
        return conclusion

    def _place(self, model: str, intent: Intent, why: str, expected: int | None) -> int:
        """Put a version where it is wanted; return the generation in which it came there."""
        subject = self._desk.log.state(model).versions.get(intent.version)
        if subject is not None and _stands(subject.manifest, intent):
            publish_route(self._desk.log, self._desk.redis, model)
            return subject.manifest.generation
        for last in range(_TRIES - 1, -1, -1):
            try:
                return self._move(model, intent, why, expected).generation
            except StaleGeneration:
                if expected is not None or not last:
                    raise
        raise AssertionError  # unreachable: the last try returns or raises

    def _move(self, model: str, intent: Intent, why: str, expected: int | None) -> Route:
        if intent.stage is Stage.CANARY:
            return self._desk.canary(
                model, intent.version, intent.traffic, why=why, expected=expected
            )
        move = self._desk.stage_shadow if intent.stage is Stage.SHADOW else self._desk.promote
        return move(model, intent.version, why=why, expected=expected)

    def _take_back(self, model: str, version: int, why: str) -> None:
        state = self._desk.log.state(model)
        stage = state.versions[version].stage
        if stage in (Stage.SHADOW, Stage.CANARY):
            self._desk.withdraw(model, version, why=why)
        elif stage is Stage.LIVE and state.former_live is not None:
            self._desk.reinstate(model, why=why)
        elif stage is Stage.LIVE:
            self._desk.retire(model, version, why=why)


def _stands(manifest: Manifest, intent: Intent) -> bool:
    traffic = Traffic(manifest.share, manifest.split, manifest.workers)
    return manifest.stage is intent.stage and traffic == intent.traffic


def _look(observer: Observer, intent: Intent, generation: int, waited: timedelta) -> Observation:
    # While Redis is away nothing is seen; the strategy's patience decides.
    try:
        return observer.observe(intent, generation, waited)
    except StoreUnavailable:
        return Observation(waited=waited)
