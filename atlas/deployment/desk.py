"""The moves a person or a flow makes: each goes to the deployment log, then to the workers' route.

The log is written first. Whoever is killed in between leaves a route that is one generation old;
`reconcile` brings it up to date, and runs whenever the stack starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from atlas.bus import read_route, write_route
from atlas.errors import DeploymentRefused, StaleGeneration
from atlas.registry import Action, DeploymentLog, Latch, ModelState
from atlas.serving import ALL, Manifest, Route, Traffic

__all__ = ["Desk", "Reconciled", "publish_route", "reconcile"]


class Desk:
    """Moves versions of models, in somebody's name.

    Every move returns the route that workers are to serve then, and raises `DeploymentRefused` if
    the version may not go there from where it stands, `StaleGeneration` if the model is no longer
    at the generation `expected` (None takes the present one), `StoreUnavailable` if SQL does not
    answer (then nothing happened) or Redis does not (then `reconcile` finishes it).

    Parameters
    ----------
    log : DeploymentLog
        The truth.
    redis : Redis
        Where workers read their routes.
    who : str
        In whose name: a person's, or one that begins with `system:`.
    """

    def __init__(self, log: DeploymentLog, redis: Redis, *, who: str) -> None:
        self.log = log
        self.redis = redis
        self.who = who

    def register(
        self, manifest: Manifest, *, passed: bool, report: str, why: str = ""
    ) -> ModelState:
        """Enter a version with the verdict of its gates; nothing is served by this.

        Parameters
        ----------
        manifest : Manifest
            The log sets its stage and generation: `Stage.REGISTERED` and 0 will do.
        passed : bool
            Whether every gate passed. If not, the version can be observed, and never more.
        report : str
            Where the gate report is kept.

        Raises
        ------
        DeploymentRefused
            If the version is registered already with another blob or verdict.
        """
        return self.log.register(manifest, passed=passed, report=report, who=self.who, why=why)

    def stage_shadow(
        self, model: str, version: int, *, why: str = "", expected: int | None = None
    ) -> Route:
        """Serve a version that passed its gates as the shadow, in place of a former shadow."""
        return self._move(model, Action.STAGE, version, why, expected)

    def promote(
        self, model: str, version: int, *, why: str = "", expected: int | None = None
    ) -> Route:
        """Serve the shadow or the canary live, in place of the former live version."""
        return self._move(model, Action.PROMOTE, version, why, expected)

    def canary(
        self,
        model: str,
        version: int,
        traffic: Traffic,
        *,
        why: str = "",
        expected: int | None = None,
    ) -> Route:
        """Let the shadow trade a share of the traffic, or give the canary another share."""
        return self._move(model, Action.CANARY, version, why, expected, traffic)

    def withdraw(
        self, model: str, version: int, *, why: str = "", expected: int | None = None
    ) -> Route:
        """Serve the shadow or the canary no longer; it stays gated."""
        return self._move(model, Action.WITHDRAW, version, why, expected)

    def observe(
        self, model: str, version: int, *, why: str = "", expected: int | None = None
    ) -> Route:
        """Watch what a rejected version would say, on a stream that nobody trades on."""
        return self._move(model, Action.OBSERVE, version, why, expected)

    def retire(
        self, model: str, version: int, *, why: str = "", expected: int | None = None
    ) -> Route:
        """Serve a version no longer, wherever it stands."""
        return self._move(model, Action.RETIRE, version, why, expected)

    def rollback(self, model: str, *, why: str = "", expected: int | None = None) -> Route:
        """Take the canary back; without one, make the former live version live again."""
        state = self.log.state(model)
        if state.canary is None:
            return self.reinstate(model, why=why, expected=expected)
        decided = state.generation if expected is None else expected
        return self.withdraw(model, state.canary.version, why=why, expected=decided)

    def reinstate(self, model: str, *, why: str = "", expected: int | None = None) -> Route:
        """Make the version live again that was live before the present one."""
        state = self.log.state(model)
        former = state.former_live
        if former is None:
            raise DeploymentRefused(
                f"Expected a version of {model} that was live before the present one; there is "
                "none. Use `atlas halt` to stop trading."
            )
        decided = state.generation if expected is None else expected
        return self._move(model, Action.ROLL_BACK, former.version, why, decided)

    def _move(
        self,
        model: str,
        action: Action,
        version: int,
        why: str,
        expected: int | None,
        traffic: Traffic = ALL,
    ) -> Route:
        self.log.move(
            model, action, version, who=self.who, why=why, expected=expected, traffic=traffic
        )
        return publish_route(self.log, self.redis, model)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What `reconcile` did."""

    routes: tuple[str, ...]
    """Models whose route in Redis was missing, old or altered, and is right now."""
    permitted: bool
    """Whether the desk may trade."""


def reconcile(log: DeploymentLog, latch: Latch, redis: Redis) -> Reconciled:
    """Make Redis agree with SQL: every model's route, and whether the desk may trade.

    Run it when Redis has started and before any worker publishes. It finishes what was cut off
    between the two, and fills a Redis that came up empty.

    Raises
    ------
    StaleGeneration
        If Redis serves a later generation than the log knows: SQL was put back to an older state.
        Everything else is reconciled first.
    """
    # The permit first, so that a halt that never reached Redis holds as soon as may be.
    permitted = latch.restore()
    mended: list[str] = []
    ahead: list[StaleGeneration] = []
    for model in log.models():
        before = read_route(redis, model)
        try:
            if publish_route(log, redis, model) != before:
                mended.append(model)
        except StaleGeneration as error:
            ahead.append(error)
    if ahead:
        raise ahead[0]
    return Reconciled(tuple(mended), permitted)


def publish_route(log: DeploymentLog, redis: Redis, model: str) -> Route:
    """Write the route that the log says, unless a newer one is there; return what is served.

    Raises
    ------
    StaleGeneration
        If Redis holds a generation that the log does not know.
    """
    route = log.state(model).route()
    try:
        write_route(redis, route, mends=True)
    except StaleGeneration as error:
        # Somebody moved on between our two steps; then the log knows of it.
        newer, known = read_route(redis, model), log.state(model).generation
        if newer is None or newer.generation > known:
            raise StaleGeneration(
                f"Redis serves a generation of {model} that the deployment log, at generation "
                f"{known}, does not know. Put the newest backup of the log back. {error}"
            ) from error
        return newer
    return route
