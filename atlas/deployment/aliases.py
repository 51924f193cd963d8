"""MLflow's aliases `live`, `canary` and `shadow` follow the deployment log, never the reverse.

MLflow keeps no history of aliases, and anybody may move one on its page. What was set here is
remembered in Redis, so that an alias which somebody moved is told from one that has yet to follow.
"""

from __future__ import annotations

from typing import Protocol

from redis import Redis

from atlas.bus import AliasEdit, keep_alias_edit, remember_alias, remembered_alias
from atlas.clock import Clock, WallClock
from atlas.errors import AtlasError, InvalidInput
from atlas.registry import DeploymentLog, ModelState
from atlas.telemetry import get_logger

__all__ = ["ALIASES", "AliasFollower", "Aliases", "aliases_of"]

log = get_logger(__name__)

ALIASES = ("live", "canary", "shadow")


class Aliases(Protocol):
    """Where aliases are; `atlas.registry.mlflow_registry.MlflowRegistry` is one."""

    def aliases(self, model: str) -> dict[str, int] | None:
        """Return the version that each alias points at; None if there is no such model."""
        ...

    def point(self, model: str, alias: str, version: int) -> None:
        """Let an alias point at a version."""
        ...

    def remove(self, model: str, alias: str) -> None:
        """Remove an alias."""
        ...


def aliases_of(state: ModelState) -> dict[str, int]:
    """Return where the log says that the aliases of a model point."""
    at = zip(ALIASES, (state.live, state.canary, state.shadow), strict=True)
    return {alias: found.version for alias, found in at if found is not None}


class AliasFollower:
    """Brings MLflow's aliases to where the deployment log says.

    Parameters
    ----------
    deployments : DeploymentLog
        The truth.
    registry : Aliases
        Where the aliases are.
    redis : Redis
        Where it is remembered which were set here.
    clock : Clock, optional
        Stamps edits.
    """

    def __init__(
        self,
        deployments: DeploymentLog,
        registry: Aliases,
        redis: Redis,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._deployments = deployments
        self._registry = registry
        self._redis = redis
        self._clock = clock or WallClock()
        self._trouble = ""

    def look(self) -> tuple[AliasEdit, ...]:
        """Bring every model's aliases in line; return those that somebody had moved.

        A model or version that MLflow does not know is passed over: it may have been trained
        elsewhere.

        Raises
        ------
        StoreUnavailable
            If SQL, MLflow or Redis does not answer.
        """
        edits: list[AliasEdit] = []
        for model in self._deployments.models():
            found = self._registry.aliases(model)
            if found is None:
                continue
            wanted = aliases_of(self._deployments.state(model))
            for alias in ALIASES:
                edit = self._settle(model, alias, found.get(alias), wanted.get(alias))
                if edit is not None:
                    edits.append(edit)
        return tuple(edits)

    def look_patiently(self) -> None:
        """Look; tell once of what is in the way, and once when it is gone."""
        try:
            self.look()
        except AtlasError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("aliases_not_followed", reason=self._trouble)
            return
        if self._trouble:
            self._trouble = ""
            log.info("aliases_followed_again")

    def _settle(
        self, model: str, alias: str, found: int | None, wanted: int | None
    ) -> AliasEdit | None:
        remembered, was_set = remembered_alias(self._redis, model, alias)
        if found == wanted:
            if not remembered or was_set != wanted:
                remember_alias(self._redis, model, alias, wanted)
            return None
        try:
            if wanted is None:
                self._registry.remove(model, alias)
            else:
                self._registry.point(model, alias, wanted)
        except InvalidInput:
            return None
        remember_alias(self._redis, model, alias, wanted)
        if not remembered or was_set == found:
            log.info("alias_moved", model=model, alias=alias, version=wanted)
            return None
        edit = AliasEdit(model, alias, found, wanted, self._clock.now())
        log.warning("alias_put_back", model=model, alias=alias, found=found, version=wanted)
        keep_alias_edit(self._redis, edit)
        return edit
