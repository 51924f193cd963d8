"""What the stack is doing at this moment, found by asking each component, and Redis for trading."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import psutil

from atlas.clock import WallClock
from atlas.config import Settings
from atlas.errors import StoreUnavailable
from atlas.runtime.component import Component
from atlas.runtime.health import RedisProbe
from atlas.runtime.stack import local_stack
from atlas.runtime.state import ComponentState, FolderLock, State, read_states

__all__ = ["StackReport", "Trading", "report"]


@dataclass(frozen=True, slots=True)
class Trading:
    """What Redis says about trading; nothing is known of it while Redis does not answer."""

    permitted: bool | None = None
    """Whether live signals may leave; None if unknown, and then none can."""
    market_time: datetime | None = None
    replay_speed: float | None = None
    """Market seconds a second while history is replayed; None when the wall's clock rules."""
    models: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)
    """For each model its route's generation and the versions that are live, shadow, observed."""
    alias_edits: tuple[str, ...] = ()
    """Aliases that somebody moved in MLflow and that were put back, a sentence each."""
    reason: str | None = None
    """Why nothing is known."""


@dataclass(frozen=True, slots=True)
class StackReport:
    """The stack at this moment."""

    home: str
    supervisor: int | None
    """Process that runs the stack; None if nobody does."""
    components: tuple[ComponentState, ...]
    trading: Trading

    @property
    def healthy(self) -> bool:
        """Whether every component of the stack is."""
        return all(component.state is State.HEALTHY for component in self.components)

    def as_dict(self) -> dict[str, Any]:
        """Return fields for JSON; moments are left as they are."""
        return {**asdict(self), "healthy": self.healthy}


def report(settings: Settings) -> StackReport:
    """Ask every component of the stack how it is, now.

    The state file adds what cannot be asked: pids, restarts, and the reason for the last failure.
    While a stack runs, the report covers its components, else all that it could have.
    """
    home = settings.home.resolve()
    supervisor = FolderLock(home).holder()
    written = read_states(home, writer=supervisor)
    components = [
        component
        for component in local_stack(settings)
        if supervisor is None or not written or component.name in written
    ]

    def judge(component: Component) -> ComponentState:
        return _judge(component, written.get(component.name), supervised=supervisor is not None)

    with ThreadPoolExecutor(max_workers=len(components) + 1) as pool:
        trading = pool.submit(_trading, settings)
        states = tuple(pool.map(judge, components))
        return StackReport(str(home), supervisor, states, trading.result())


def _judge(
    component: Component, written: ComponentState | None, *, supervised: bool
) -> ComponentState:
    """Let the component's own answer overrule what was written of it."""
    port = component.port.number if component.port else None
    if written is None:
        state = State.WAITING if supervised else State.STOPPED
        written = ComponentState(component.name, state, WallClock().now(), port=port)
    if not supervised:
        return _judge_unsupervised(component, written)
    if written.state not in (State.HEALTHY, State.UNHEALTHY):
        return written
    if not component.once and not _is_running(written.pid):
        return replace(written, state=State.UNHEALTHY, reason="its process is gone")
    problem: str | None = component.probe(written.pid) if component.probe else None
    if problem is None:
        return replace(written, state=State.HEALTHY)
    if written.port != port:
        problem = f"{problem} (the stack was started with port {written.port})"
    return replace(written, state=State.UNHEALTHY, reason=problem)


def _judge_unsupervised(component: Component, written: ComponentState) -> ComponentState:
    if component.probe is not None and component.probe(None) is None:
        reason = "it answers, and was not started by a stack over this folder"
        return replace(written, state=State.HEALTHY, pid=None, reason=reason)
    last_words = written.reason if written.state is State.FAILED else None
    return replace(written, state=State.STOPPED, pid=None, reason=last_words)


def _is_running(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _trading(settings: Settings) -> Trading:
    problem = RedisProbe(settings.host, settings.redis_port)(None)
    if problem is not None:
        return Trading(reason=problem)
    # Only now: the client takes longer to import than everything else here.
    from atlas.bus import (
        RedisClock,
        connect,
        is_permitted,
        read_alias_edits,
        read_replay,
        read_routes,
    )

    try:
        redis = connect(settings.host, settings.redis_port)
        try:
            replay = read_replay(redis)
            return Trading(
                permitted=is_permitted(redis),
                market_time=RedisClock(redis).now(),
                replay_speed=None if replay is None else replay.speed,
                models={
                    model: {
                        "generation": route.generation,
                        "live": route.live.version if route.live else None,
                        "shadow": route.shadow.version if route.shadow else None,
                        "observed": route.observed.version if route.observed else None,
                    }
                    for model, route in read_routes(redis).items()
                },
                alias_edits=tuple(map(str, read_alias_edits(redis))),
            )
        finally:
            redis.close()
    except StoreUnavailable as error:
        return Trading(reason=str(error))
