"""How a candidate walks from shadow to live: four strategies that only decide.

All begin as a shadow, whose signals nobody trades. `shadow` ends there. `blue_green` then switches
all traffic at once, `canary` share by share, `rolling` worker by worker. Each holds while evidence
is missing and takes the candidate back at a breach, or when patience ends.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

from atlas.deployment.observation import Conclusion, Intent, Observation, Outcome, Strategy
from atlas.deployment.terms import Terms
from atlas.serving import Stage, Traffic

__all__ = ["STRATEGIES", "blue_green", "canary", "rolling", "shadow", "switch"]

_Part = Generator[Intent, Observation, Observation | Conclusion]


def shadow(candidate: int, terms: Terms, *, begun: Traffic | None = None) -> Strategy:
    """Watch the candidate beside the live version, and leave it there."""
    seen = yield from _as_shadow(candidate, terms)
    if isinstance(seen, Conclusion):
        return seen
    return Conclusion(Outcome.HELD, f"{seen.rows} rows as a shadow, {seen.errors} errors.")


def blue_green(candidate: int, terms: Terms, *, begun: Traffic | None = None) -> Strategy:
    """Watch the candidate as a shadow, then switch all traffic to it at once.

    Every worker has it loaded and warm before the switch, and keeps the former version after it.
    """
    seen = yield from _as_shadow(candidate, terms)
    if isinstance(seen, Conclusion):
        return seen
    return (yield from _live(candidate, terms, f"{seen.rows} rows as a shadow"))


def canary(
    candidate: int,
    terms: Terms,
    *,
    shares: Sequence[float] = (0.10, 0.25, 0.50),
    begun: Traffic | None = None,
) -> Strategy:
    """Give the candidate growing shares of the traffic, then all.

    Parameters
    ----------
    shares : sequence of float
        Of the units of traffic, ascending; the last step, to all, is not among them.
    begun : Traffic or None
        What it trades already: an earlier deployment was cut off. It goes on from there.
    """
    if begun is None:
        seen = yield from _as_shadow(candidate, terms)
        if isinstance(seen, Conclusion):
            return seen
    steps = [share for share in shares if begun is None or share >= begun.share]
    for share in steps:
        traffic = Traffic(share, begun.split if begun else str(candidate))
        seen = yield from _trading(candidate, terms, traffic, f"With {share:.0%} of the traffic")
        if isinstance(seen, Conclusion):
            return seen
    return (yield from _live(candidate, terms, f"canary at {', '.join(f'{s:.0%}' for s in steps)}"))


def rolling(candidate: int, terms: Terms, *, begun: Traffic | None = None) -> Strategy:
    """Let one worker after another trade the candidate, until all do."""
    moved: tuple[str, ...] = begun.workers if begun else ()
    if begun is None:
        seen = yield from _as_shadow(candidate, terms)
    else:
        seen = yield from _trading(candidate, terms, begun, f"On {len(moved)} workers")
    while True:
        if isinstance(seen, Conclusion):
            return seen
        left = sorted(set(seen.fleet) - set(moved))
        if not left:
            break
        moved = (*moved, left[0])
        traffic = Traffic(0.0, str(candidate), moved)
        seen = yield from _trading(
            candidate, terms, traffic, f"On {len(moved)} of {len(seen.fleet)} workers"
        )
    return (yield from _live(candidate, terms, f"{len(moved)} workers one by one"))


def switch(candidate: int, terms: Terms, *, shown: str) -> Strategy:
    """Switch all traffic at once to a version that has shown elsewhere that it should be live.

    Parameters
    ----------
    shown : str
        What it has shown, for the log.
    """
    return (yield from _live(candidate, terms, shown))


STRATEGIES: Mapping[str, Callable[..., Strategy]] = {
    "shadow": shadow,
    "blue-green": blue_green,
    "canary": canary,
    "rolling": rolling,
}
"""By the name that people give them."""


def _as_shadow(candidate: int, terms: Terms) -> _Part:
    seen = yield from _shown(Intent(candidate, Stage.SHADOW), terms, "As a shadow", trades=0)
    if isinstance(seen, Conclusion) or terms.min_agreement is None or seen.agreement is None:
        return seen
    if not seen.agreement >= terms.min_agreement:
        return Conclusion(
            Outcome.ROLLED_BACK,
            f"As a shadow: It takes the live version's side on {seen.agreement:.1%} of the rows; "
            f"expected at least {terms.min_agreement:.1%}.",
        )
    return seen


def _trading(candidate: int, terms: Terms, traffic: Traffic, where: str) -> _Part:
    intent = Intent(candidate, Stage.CANARY, traffic)
    return (yield from _shown(intent, terms, where, trades=terms.min_trades))


def _shown(intent: Intent, terms: Terms, where: str, *, trades: int) -> _Part:
    """Stay until everything is shown; return what was seen last, or how it ended."""
    seen = yield intent
    before = seen.trades  # of earlier shares
    while True:
        if breach := terms.breach(seen):
            return Conclusion(Outcome.ROLLED_BACK, f"{where}: {breach}")
        lacks = terms.lacks(seen, trades=before + trades if trades else 0)
        too_soon = intent.stage is Stage.CANARY and seen.waited < terms.min_time
        if lacks is None and not too_soon:
            return seen
        if lacks is not None and seen.waited >= max(terms.patience, terms.min_time):
            return Conclusion(Outcome.ROLLED_BACK, f"{where}: {lacks}")
        seen = yield intent


def _live(candidate: int, terms: Terms, so_far: str) -> Strategy:
    """Switch all traffic, see that every worker follows, and watch the first rows."""
    intent = Intent(candidate, Stage.LIVE)
    seen = yield intent
    while True:
        if breach := terms.breach(seen):
            return Conclusion(Outcome.ROLLED_BACK, f"Live: {breach}")
        followed = seen.workers and not seen.waiting
        if followed and seen.rows >= terms.watched_rows:
            break
        if not followed and seen.waited >= terms.switch_patience:
            return Conclusion(
                Outcome.ROLLED_BACK,
                f"Live: After {seen.waited.total_seconds():.0f} s {seen.workers} workers serve it "
                f"and {seen.waiting} have not answered.",
            )
        if seen.waited >= terms.patience:
            return Conclusion(
                Outcome.ROLLED_BACK,
                f"Live: It predicted {seen.rows} rows in {seen.waited.total_seconds():.0f} s; "
                f"expected {terms.watched_rows}. Check that features arrive.",
            )
        seen = yield intent
    return Conclusion(
        Outcome.PROMOTED, f"{so_far}, {seen.errors} errors; {seen.workers} workers serve it."
    )
