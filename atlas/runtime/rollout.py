"""How an installation deploys a version: the strategy by its name, under the desk's terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from atlas.config import Settings
from atlas.deployment import (
    STRATEGIES,
    BusObserver,
    Conclusion,
    Desk,
    Driver,
    Intent,
    Observation,
    Strategy,
    Terms,
)
from atlas.errors import DeploymentRefused, InvalidInput
from atlas.registry import ModelState
from atlas.runtime.earnings import matured_of
from atlas.runtime.installation import Installation
from atlas.serving import Traffic

__all__ = ["desk_terms", "newest_candidate", "roll_out"]

_GROWTH = 2.0
_LAST_SHARE = 0.5


def desk_terms(settings: Settings) -> Terms:
    """Return the terms that the settings ask for."""
    return replace(
        Terms(),
        max_drawdown=settings.max_candidate_drawdown,
        switch_patience=timedelta(seconds=settings.health_check_timeout_s),
    )


def newest_candidate(state: ModelState) -> int:
    """Return the newest version that passed its gates and does not trade yet.

    Raises
    ------
    DeploymentRefused
        If there is none.
    """
    live = state.live.version if state.live else 0
    found = [v.version for v in state.versions.values() if v.passed and v.version > live]
    if not found:
        raise DeploymentRefused(
            f"Expected a version of {state.model} that passed its gates and is newer than the live "
            f"one; found none of {len(state.versions)}. Train one, or name it with --version."
        )
    return max(found)


def roll_out(
    installation: Installation,
    model: str,
    version: int,
    *,
    strategy: str | None = None,
    terms: Terms | None = None,
    who: str,
    why: str = "",
    on_look: Callable[[Intent, Observation], None] = lambda intent, seen: None,
) -> Conclusion:
    """Walk a version that passed its gates through a strategy; otherwise as `Driver.deploy`.

    A deployment that was cut off while its canary traded goes on from the share it had.

    Parameters
    ----------
    strategy : str or None
        One of `atlas.deployment.STRATEGIES`; None takes that of the settings.
    """
    settings = installation.settings
    desk = Desk(installation.deployments, installation.redis, who=who)
    walk = _strategy(
        strategy or settings.strategy,
        installation.deployments.state(model),
        version,
        terms or desk_terms(settings),
        settings.canary_percent / 100,
    )
    driver = Driver(
        desk,
        observer=lambda name: BusObserver(
            installation.redis, name, matured=matured_of(installation, name)
        ),
        on_look=on_look,
    )
    return driver.deploy(model, version, walk, why=why)


def _strategy(
    name: str, state: ModelState, version: int, terms: Terms, first_share: float
) -> Strategy:
    if name not in STRATEGIES:
        raise InvalidInput(f"Expected a strategy of {', '.join(STRATEGIES)}; found {name!r}.")
    begun = None
    if state.canary is not None and state.canary.version == version:
        manifest = state.canary.manifest
        begun = Traffic(manifest.share, manifest.split, manifest.workers)
    if name != "canary":
        return STRATEGIES[name](version, terms, begun=begun)
    shares = [first_share]
    while shares[-1] < _LAST_SHARE:
        shares.append(min(_LAST_SHARE, _GROWTH * shares[-1] + 0.05))
    return STRATEGIES[name](version, terms, shares=shares, begun=begun)
