"""How the demo speaks: stages with their times, progress bars, tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from atlas.cli.terminal import open_console
from atlas.gates import Report
from atlas.runtime import ComponentState, State
from flows.progress import listening

__all__ = ["Narrator"]

_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


class Narrator:
    """Tells a person what happens, as it happens."""

    def __init__(self) -> None:
        self.console = open_console()
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Head a stage and say how long it took; steps inside that report progress get a bar."""
        began = time.monotonic()
        self.console.print(f"\n[bold]{title}[/]")
        with self._bars() as progress, listening(_Bars(progress)):
            yield
        self.console.print(f"  [dim]{time.monotonic() - began:.1f} s[/]")

    @contextmanager
    def bar(self, description: str) -> Iterator[Progress]:
        """Show a bar of the caller's own."""
        with self._bars() as progress:
            progress.add_task(description, total=1.0)
            yield progress

    def say(self, text: str) -> None:
        """Say one line."""
        self.console.print(f"  {text}", soft_wrap=True)

    def component(self, state: ComponentState) -> None:
        """Say where a component stands, when that is news."""
        if state.state is State.HEALTHY:
            self.say(f"[green]●[/] {state.name:12} healthy in {state.took_s or 0:.1f} s")
        elif state.state in (State.FAILED, State.UNHEALTHY, State.RESTARTING):
            self.say(f"[red]●[/] {state.name:12} {state.state}: {state.reason}")

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Show rows under their heading."""
        head, *body = rows
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 2))
        for name in head:
            # Figures keep their digits together; prose gives way.
            table.add_column(name, no_wrap=name not in ("reason", "source", "symbols"))
        for row in body:
            table.add_row(*row)
        self.console.print(table)

    def report(self, model: str, version: int, report: Report) -> None:
        """Show a gate report."""
        outcome = str(report.outcome)
        self.say(f"{model}/{version}: [{_COLOURS[outcome]}]{outcome}[/]")
        # The reasons of a rejection are said at the end, in full.
        head, *rows = (row[:-1] for row in report.table())
        self.table([head, *([_coloured(cell) for cell in row] for row in rows)])

    def _bars(self) -> Progress:
        return Progress(
            TextColumn("  {task.description:26}"),
            BarColumn(32),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            console=self.console,
            refresh_per_second=5,
            # A pipe or a log file gets no bars, only the lines.
            disable=not self.console.is_terminal,
        )


class _Bars:
    """One bar for each step that reports progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, description: str, share: float) -> None:
        if description not in self._tasks:
            self._tasks[description] = self._progress.add_task(description, total=1.0)
        self._progress.update(self._tasks[description], completed=share)


def _coloured(cell: str) -> str:
    return f"[{_COLOURS[cell]}]{cell}[/]" if cell in _COLOURS else cell
