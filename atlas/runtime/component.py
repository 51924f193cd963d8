"""What a component of the stack is, and in which order components may start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Protocol

from atlas.errors import InvalidInput

__all__ = ["Component", "Port", "Probe", "levels", "with_needs"]


class Probe(Protocol):
    """Asks a running component whether it is healthy."""

    def __call__(self, pid: int | None) -> str | None:
        """Return why it is not healthy, or None; `pid` is the process that should answer."""
        ...


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a component listens on, and the setting that chose it."""

    number: int
    setting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One program of the stack: what starts it, what it needs, how to tell that it is healthy."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    probe: Probe | None = None
    """Without one, a program is healthy once it has run for a second, and while it runs."""
    port: Port | None = None
    address: str | None = None
    """Where a person finds it, such as the page of its console."""
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    """Made before it starts."""
    once: bool = False
    """It does its work and ends; it is healthy when it ended with 0."""
    after: tuple[str, ...] = ()
    """It leaves the machine to these until their start has ended; it does not need them."""
    start_timeout: timedelta | None = None
    """How long it may take to become healthy, where the stack's own limit does not fit."""
    stop_timeout: timedelta = timedelta(seconds=10)
    """How long it may take to end after SIGTERM before it is killed."""


def levels(components: Iterable[Component]) -> tuple[tuple[str, ...], ...]:
    """Derive the start levels: what stands in one level waits only for what stands in earlier ones.

    Raises
    ------
    InvalidInput
        If two components share a name, one needs itself by a detour, or one needs a stranger.
    """
    known: dict[str, Component] = {}
    for component in components:
        if component.name in known:
            raise InvalidInput(f"Two components are named {component.name}; rename one of them.")
        known[component.name] = component
    for name, component in known.items():
        strangers = sorted({*component.needs, *component.after} - known.keys())
        if strangers:
            raise InvalidInput(
                f"Component {name} needs {', '.join(strangers)}, which is not in the stack. "
                f"In it are {', '.join(sorted(known))}; add it or drop the need."
            )
    order = TopologicalSorter({name: {*c.needs, *c.after} for name, c in known.items()})
    try:
        order.prepare()
    except CycleError as error:
        circle = " needs ".join(reversed(error.args[1]))
        raise InvalidInput(f"Components need each other in a circle: {circle}; cut it.") from None
    found: list[tuple[str, ...]] = []
    while order.is_active():
        level = order.get_ready()
        found.append(tuple(sorted(level)))
        order.done(*level)
    return tuple(found)


def with_needs(components: Sequence[Component], names: Iterable[str]) -> tuple[Component, ...]:
    """Select the named components and everything that they need, in the order given.

    Raises
    ------
    InvalidInput
        If a name is not among the components.
    """
    known = {component.name: component for component in components}
    wanted: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in known:
            raise InvalidInput(
                f"There is no component named {name}. Known are {', '.join(sorted(known))}."
            )
        if name not in wanted:
            wanted.add(name)
            pending.extend(known[name].needs)
    return tuple(
        replace(each, after=tuple(name for name in each.after if name in wanted))
        for each in components
        if each.name in wanted
    )
