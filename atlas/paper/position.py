"""What one symbol's paper position is, and what a decision makes of it: pure, one step at a time.

A live version and its canary trade one position per symbol, the desk's. It passes from one to the
other at the price of the moment in which the new owner first decides, and passing costs nothing;
what the decision changes is charged to whoever decided. A version that does not trade, a shadow or
a rejected one, has a book of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from atlas.fills import Costs
from atlas.serving import Stage, trades

__all__ = [
    "DESK",
    "Decision",
    "Position",
    "Profit",
    "book_of",
    "decide",
    "earned",
]

DESK = "desk"
"""The book of everything that trades."""


class Decision(Protocol):
    """What a version wants to hold of a symbol from a bar's close on."""

    @property
    def stage(self) -> Stage:
        """Where the version stands."""
        ...

    @property
    def version(self) -> int:
        """Who decides."""
        ...

    @property
    def side(self) -> int:
        """What to hold: −1, 0 or +1 units of notional."""
        ...

    @property
    def event_us(self) -> int:
        """When the bar closed."""
        ...


@dataclass(frozen=True, slots=True)
class Position:
    """What is held of a symbol since its newest decision, on one unit of notional."""

    stage: Stage
    version: int
    """Whose decision it was: they own the symbol until the next."""
    side: int
    price: float
    since_us: int
    cost: float
    """Of that decision."""


@dataclass(frozen=True, slots=True)
class Profit:
    """What was earned between two consecutive decisions, by the owner of the first."""

    stage: Stage
    version: int
    from_us: int
    to_us: int
    side: int
    gross: float
    cost: float

    @property
    def net(self) -> float:
        """What is left after the cost of the first decision."""
        return self.gross - self.cost


def book_of(stage: Stage, version: int) -> str:
    """Return the name of the book in which a version's decisions are kept."""
    return DESK if trades(stage) else f"{stage}/{version}"


def decide(
    held: Position | None, decision: Decision, price: float, costs: Costs
) -> tuple[Position, Profit | None]:
    """Fill a decision; return what is held then, and what was earned since the last one.

    Parameters
    ----------
    held : Position or None
        None before the book's first decision on this symbol.
    price : float
        Close of the bar that decided.
    """
    turnover = abs(decision.side - (held.side if held else 0))
    taken = Position(
        stage=decision.stage,
        version=decision.version,
        side=decision.side,
        price=price,
        since_us=decision.event_us,
        cost=costs.per_side * turnover,
    )
    return taken, None if held is None else earned(held, price, decision.event_us)


def earned(held: Position, price: float, at_us: int) -> Profit:
    """Return what a position has earned up to a moment, less the cost of the decision behind it.

    This is the return of `atlas.book`: simple, on a notional that is reset at each decision.
    """
    return Profit(
        stage=held.stage,
        version=held.version,
        from_us=held.since_us,
        to_us=at_us,
        side=held.side,
        gross=held.side * (price / held.price - 1.0),
        cost=held.cost,
    )
