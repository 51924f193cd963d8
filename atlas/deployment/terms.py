"""What a candidate must show before it moves on, and what it must never do on the way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from atlas.deployment.observation import Observation

__all__ = ["Terms"]


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one deployment; they hold at every stage of it."""

    min_rows: int = 100
    """Rows that it must predict: as a shadow, and again with each share of the traffic."""
    min_trades: int = 0
    """Trades on paper that must have matured with each share; fewer hold it, never promote it."""
    min_time: timedelta = timedelta(0)
    """With each share, at least."""
    watched_rows: int = 0
    """Rows that it must predict live before the deployment ends."""
    max_error_share: float = 0.01
    max_latency_p99: timedelta = timedelta(milliseconds=100)
    min_agreement: float | None = None
    """Least share of a shadow's rows on the live version's side; None asks for none."""
    max_drawdown: float = 0.10
    """Of its paper profit at a stage, as a fraction of the notional."""
    min_chance: float = 0.01
    """Least chance that profits as low as these come of the mean that the gates saw."""
    patience: timedelta = timedelta(minutes=30)
    """How long a stage may take to show all this; then it is taken back."""
    switch_patience: timedelta = timedelta(seconds=30)
    """How long the workers may take to serve it live."""

    def breach(self, seen: Observation) -> str | None:
        """Return what the candidate did that it must not, in one sentence; NaN is a breach."""
        if seen.refusals:
            return f"Refused by {len(seen.refusals)} workers: {seen.refusals[0]}"
        tried = seen.predicted + seen.errors
        if tried and not seen.errors / tried <= self.max_error_share:
            return (
                f"{seen.errors} of {tried} predictions failed; at most "
                f"{self.max_error_share:.1%} may."
            )
        latency = seen.latency_p99_us / 1e3
        bound = self.max_latency_p99.total_seconds() * 1e3
        if not latency <= bound:
            return f"Its latency is {latency:.1f} ms at the 99th percentile, over {bound:.1f} ms."
        return self._loss(seen)

    def _loss(self, seen: Observation) -> str | None:
        earned = seen.matured
        if earned is None or not earned.trades:
            return None
        if not earned.max_drawdown <= self.max_drawdown:
            return (
                f"Its paper profit fell {earned.max_drawdown:.1%} below its peak in "
                f"{earned.trades} trades; at most {self.max_drawdown:.1%} may be lost."
            )
        if earned.shortfall_p is not None and not earned.shortfall_p >= self.min_chance:
            return (
                f"It earned {earned.mean:.2e} an hour in {earned.trades} trades where its gates "
                f"saw {earned.expected:.2e}; the chance of so little is {earned.shortfall_p:.2%}."
            )
        return None

    def lacks(self, seen: Observation, *, trades: int) -> str | None:
        """Return what is still to be shown where the candidate stands, or None.

        Parameters
        ----------
        trades : int
            How many matured trades are asked for.
        """
        if not seen.workers:
            return "No worker serves it. Start one with `make up` or `atlas worker`."
        if seen.rows < self.min_rows:
            return (
                f"It predicted {seen.rows} rows in {seen.waited.total_seconds():.0f} s; expected "
                f"{self.min_rows}. Check that features arrive, or ask for fewer rows."
            )
        if seen.trades < trades:
            books = "" if seen.matured else " No books are kept: start the paper broker."
            return (
                f"{seen.trades} of its trades matured in {seen.waited.total_seconds():.0f} s; "
                f"expected {trades}, as fewer tell nothing.{books}"
            )
        return None
