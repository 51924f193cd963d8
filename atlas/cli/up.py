"""`atlas up`: starts the local stack, shows each component as it comes, stays until stopped."""

from __future__ import annotations

import signal
import threading
import time
from queue import SimpleQueue
from typing import Annotated

import typer
from rich.table import Table

from atlas.cli.terminal import open_console
from atlas.config import load_settings
from atlas.runtime import (
    Component,
    ComponentState,
    State,
    Supervisor,
    supervise,
    write_environment,
)

__all__ = ["up"]

_COLOURS = {
    State.HEALTHY: "green",
    State.FAILED: "red",
    State.UNHEALTHY: "yellow",
    State.RESTARTING: "yellow",
    State.WAITING: "yellow",
}

# A wrapper such as `timeout` passes a signal on that the terminal has sent to us as well.
_ONE_PRESS_S = 0.5


def up(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Same as --only NAME.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Start this component and what it needs; repeatable."),
    ] = None,
) -> None:
    """Start everything on this machine, and stay until stopped.

    Components start as soon as what they need is healthy. One that fails is reported with its
    reason, and the others go on; one that ends later is started again. Ctrl-C or SIGTERM stops all
    in reverse order; a second one kills what is left at once.

    Exits with 0 when stopped, with 1 if a component had failed by then, with 2 if nothing could be
    started: a port is taken, or another stack runs over the same state folder.
    """
    settings = load_settings()
    told: SimpleQueue[ComponentState | signal.Signals | None] = SimpleQueue()
    wanted = [*(names or []), *(only or [])]
    supervisor = supervise(settings, only=wanted, on_change=told.put)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A terminal that nohup has cut off may close; asked directly, we always stop.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: told.put(signal.Signals(received)))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would hide how a component ended
    began = time.monotonic()
    supervisor.start()
    try:
        environment = write_environment(settings)
        _Display(supervisor.components, began, f". {environment}").follow(told, supervisor)
    finally:
        supervisor.stop()
    if any(state.state is State.FAILED for state in supervisor.states()):
        raise typer.Exit(1)


class _Display:
    """Prints what happens to the stack, and passes on the wish to stop."""

    def __init__(self, components: tuple[Component, ...], began: float, hint: str) -> None:
        self._addresses = {each.name: each.address or "" for each in components}
        self._width = max(len(each.name) for each in components)
        self._began = began
        self._hint = hint
        self._console = open_console()
        self._shown: dict[str, tuple[State, str | None]] = {}
        self._announced = False
        self._asked_at: float | None = None

    def follow(
        self,
        told: SimpleQueue[ComponentState | signal.Signals | None],
        supervisor: Supervisor,
    ) -> None:
        """Show each change until the stack has stopped."""

        def stop() -> None:
            supervisor.stop()
            told.put(None)

        while (news := told.get()) is not None:
            if isinstance(news, ComponentState):
                self._show(news)
                states = supervisor.states()
                starting = not self._announced and self._asked_at is None
                if starting and all(s.settled for s in states):
                    self._announce(states)
                    if all(s.lost for s in states):
                        told.put(signal.SIGTERM)
            elif self._asked_at is None:
                self._asked_at = time.monotonic()
                self._console.print("Stopping; once more ends it at once.")
                threading.Thread(target=stop, name="stop", daemon=True).start()
            elif time.monotonic() - self._asked_at > _ONE_PRESS_S:
                self._console.print("Ending at once what is left.")
                supervisor.hurry()

    def _show(self, state: ComponentState) -> None:
        seen = (state.state, state.reason)
        quiet = state.reason is None and state.state in (State.WAITING, State.STARTING)
        if quiet or self._shown.get(state.name) == seen:
            return
        self._shown[state.name] = seen
        details = state.reason or ""
        if state.state is State.HEALTHY:
            details = f"in {state.took_s or 0:.1f} s  {self._addresses[state.name]}"
        colour = _COLOURS.get(state.state, "dim")
        self._console.print(
            f"{time.monotonic() - self._began:6.1f} s  {state.name:{self._width}}  "
            f"[{colour}]{state.state:10}[/]  {_plain(details)}".rstrip(),
            soft_wrap=True,
        )

    def _announce(self, states: tuple[ComponentState, ...]) -> None:
        table = Table("component", "state", "took", "address", box=None, header_style="bold")
        for state in states:
            took = "" if state.took_s is None else f"{state.took_s:.1f} s"
            colour = _COLOURS.get(state.state, "dim")
            address = self._addresses[state.name]
            table.add_row(state.name, f"[{colour}]{state.state}[/]", took, address)
        self._console.print(table)
        healthy = sum(state.state is State.HEALTHY for state in states)
        self._console.print(
            f"{healthy} of {len(states)} healthy after {time.monotonic() - self._began:.1f} s. "
            f"For another terminal: {_plain(self._hint)}\nCtrl-C stops everything.",
            soft_wrap=True,
        )
        self._announced = True


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
