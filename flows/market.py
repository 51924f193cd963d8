"""What the demo works on: the user's candles or a simulated market, and where training ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from atlas.clock import WallClock, to_micros
from atlas.errors import NotEnoughData
from atlas.ingest import LoadReport, MarketRecipe, batch_of_frame, load_candles, simulate
from atlas.market import Interval, features_table, interval_of
from atlas.runtime.installation import Installation
from atlas.streaming import ReplayPlan
from flows.ingest import ingest
from flows.narration import Narrator

__all__ = ["Market", "load_market"]

SIMULATED_DAYS = 61
_HELD_BACK_DAYS = 2


@dataclass(frozen=True)
class Market:
    """What the demo works on."""

    source: str
    simulated: bool
    interval: Interval
    symbols: tuple[str, ...]
    first: datetime
    split: datetime
    """Training ends here; what follows is played as if live."""
    played_until: datetime
    last: datetime

    @property
    def views(self) -> list[str]:
        """Feature views put forward: on the simulated market also the planted trap."""
        names = ["ohlcv", "lunar"] if self.simulated else ["ohlcv"]
        return [features_table(name, self.interval) for name in names]

    def plan(self, *, end: datetime, speed: float) -> ReplayPlan:
        """Return the plan of a replay from the split."""
        split_us = to_micros(self.split)
        return ReplayPlan(
            interval=str(self.interval),
            views=tuple(self.views),
            symbols=self.symbols,
            start_us=split_us,
            end_us=to_micros(end),
            speed=speed,
            played_us=split_us,
        )


def load_market(narrator: Narrator, data: str | None, *, seed: int, hours: float) -> Market:
    """Ingest the user's files, or a simulated market."""
    with narrator.stage("Ingest"):
        if data is None:
            reports: Sequence[LoadReport] = [_simulate(narrator, seed)]
        else:
            done = ingest(data)
            reports = done.reports
            for problem in done.unreadable:
                narrator.say(f"[red]not loaded[/] {problem}")
            if done.passed_over:
                narrator.say(f"[dim]passed over: {', '.join(done.passed_over)}[/]")
        narrator.table(_load_rows(reports))
        for report in reports:
            for reason, count in report.reasons[:3]:
                narrator.say(f"[yellow]quarantined[/] {report.source}: {count} x {reason}")
    return _market(narrator, reports, simulated=data is None, hours=hours)


def _simulate(narrator: Narrator, seed: int) -> LoadReport:
    installation = Installation()
    # A market of another seed is another market: under the same names its bars would count as
    # corrections of the first one's.
    names = tuple(f"SIM{seed}_{letter}" for letter in "ABCDE")
    recipe = MarketRecipe(symbols=names, days=SIMULATED_DAYS, seed=seed)
    narrator.say(
        f"simulated: {len(recipe.symbols)} symbols, {recipe.days} days of 1-minute bars; a hidden "
        f"drift of {recipe.drift_bps_per_hour:g} bp an hour is planted"
    )
    batch = batch_of_frame(simulate(recipe), interval_of("1m"), source=f"simulated seed {seed}")
    return load_candles(installation.clickhouse, batch, now=WallClock().now())


def _load_rows(reports: Sequence[LoadReport]) -> list[list[str]]:
    counts = ("rows_read", "inserted", "corrected", "unchanged", "quarantined")
    head = ["source", "symbols", "interval", *(name.replace("rows_", "") for name in counts)]
    return [
        head,
        *(
            [
                Path(report.source).name,
                report.symbol,
                str(report.interval),
                *(f"{getattr(report, name):,}" for name in counts),
            ]
            for report in reports
        ),
    ]


def _market(
    narrator: Narrator, reports: Sequence[LoadReport], *, simulated: bool, hours: float
) -> Market:
    """Choose the interval with most bars, and where training ends."""
    good = [report for report in reports if report.first is not None]
    if not good:
        raise NotEnoughData("Expected good candles; every row was quarantined.")
    sizes = {r.interval: sum(o.rows_read for o in good if o.interval == r.interval) for r in good}
    interval = max(sizes, key=lambda each: sizes[each])
    if others := sorted(str(each) for each in sizes if each != interval):
        narrator.say(
            f"models are made of the {interval} bars; {', '.join(others)} are kept as well"
        )
    own = [report for report in good if report.interval == interval]
    first = min(report.first for report in own if report.first)
    last = max(report.last for report in own if report.last)
    back = timedelta(days=_HELD_BACK_DAYS) if simulated else (last - first) * 0.05
    back = max(back, 20 * interval.delta)
    split = last - (back // interval.delta) * interval.delta
    played = min(last, split + max(timedelta(hours=hours), 20 * interval.delta))
    symbols = sorted({symbol for report in own for symbol in report.symbols})
    narrator.say(
        f"training ends {split:%Y-%m-%d %H:%M} UTC; what follows, to {last:%Y-%m-%d %H:%M}, "
        "is held back and played as if live"
    )
    source = ", ".join(Path(report.source).name for report in own)
    return Market(source, simulated, interval, tuple(symbols), first, split, played, last)
