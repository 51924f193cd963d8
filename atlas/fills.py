"""What trading costs, and what is left of a position after it.

One convention for back-tests, gates and the paper trader. A position is a fraction of one unit of
notional, decided before a bar opens and held over the bar. Every change pays spread, fee and
slippage on its size, in the bar in which the change happens; closing the last position pays too.
"""

import math
from dataclasses import dataclass
from typing import Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.errors import InvalidInput

__all__ = ["Costs", "Trades", "held", "net_returns", "trades"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Costs:
    """What one side of a market order costs, in basis points of its notional."""

    fee_bps: float
    half_spread_bps: float
    slippage_bps: float

    def __post_init__(self) -> None:
        for name in ("fee_bps", "half_spread_bps", "slippage_bps"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InvalidInput(
                    f"{name}: expected basis points of at least 0, found {value!r}. "
                    "A rebate is no cost that a market order can count on."
                )

    @property
    def per_side(self) -> float:
        """The whole of it as a fraction of notional: 0.0007 is 7 basis points."""
        return (self.fee_bps + self.half_spread_bps + self.slippage_bps) / 10_000

    @classmethod
    def free(cls) -> Self:
        """Nothing: for gross figures and for tests, never for evidence."""
        return cls(fee_bps=0.0, half_spread_bps=0.0, slippage_bps=0.0)

    @classmethod
    def crypto_taker(cls) -> Self:
        """A taker on a large exchange's liquid perpetual: 5 + 1 + 1 basis points.

        An assumption, to be replaced by the account's own: 0.05 % is Binance's published taker fee
        on USD-margined futures without volume discount. One basis point of half spread and one of
        slippage are wide for BTC and ETH in quiet hours, and fair for smaller pairs.
        """
        return cls(fee_bps=5.0, half_spread_bps=1.0, slippage_bps=1.0)

    @classmethod
    def index_fund(cls) -> Self:
        """A taker in a liquid index fund such as SPY: 0.1 + 0.1 + 0.3 basis points.

        An assumption: commissions of about 0.35 US cents and half a cent of spread on a share of
        several hundred dollars.
        """
        return cls(fee_bps=0.1, half_spread_bps=0.1, slippage_bps=0.3)


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """Completed trades in order of time, one element a trade in every array."""

    start: IntArray
    """(n,) first bar held."""
    end: IntArray
    """(n,) last bar held."""
    side: FloatArray
    """(n,) 1 long, -1 short."""
    net: FloatArray
    """(n,) profit on one unit of notional, after the trade's own entry and exit."""

    def __len__(self) -> int:
        return len(self.net)

    @property
    def wins(self) -> NDArray[np.bool_]:
        """(n,) whether the trade made money after costs."""
        return self.net > 0


def held(decisions: ArrayLike, at: ArrayLike, n_bars: SupportsIndex) -> FloatArray:
    """Return the position that each bar is held with: the last decision made before it opened.

    A decision made at the close of bar `i` acts from bar `i + 1` until the next one acts. Before
    the first there is no position, and one made at the close of the last bar never acts.

    Parameters
    ----------
    decisions : (n,)
        -1, 0 or 1.
    at : (n,) int
        Bars at whose close they were made, ascending and without repeats.
    n_bars : int

    Returns
    -------
    (n_bars,) positions.
    """
    wanted = _sides(decisions, "decisions")
    times = np.asarray(at)
    if times.shape != wanted.shape:
        raise InvalidInput(
            f"at: expected one bar for each of {wanted.size} decisions, found shape {times.shape}."
        )
    position = np.zeros(n_bars)
    if not wanted.size:
        return position
    if not np.issubdtype(times.dtype, np.integer):
        raise InvalidInput(f"at: expected whole bar positions, found {times.dtype}.")
    if times[0] < 0 or times[-1] >= position.size or (times[1:] <= times[:-1]).any():
        raise InvalidInput(
            f"at: expected ascending bars in [0, {position.size}) without repeats, found them out "
            "of order or outside. Sort the decisions by time."
        )
    latest = np.searchsorted(times, np.arange(position.size), side="left") - 1
    decided = latest >= 0
    position[decided] = wanted[latest[decided]]
    return position


def net_returns(position: ArrayLike, bar_returns: ArrayLike, costs: Costs) -> FloatArray:
    """Return what each bar earned on one unit of notional after costs.

    Parameters
    ----------
    position : (n,)
        Fraction of one unit held over each bar, decided before it opened; flat before the first.
    bar_returns : (n,)
        The market's gross return over each bar.
    costs : Costs
        Paid on every change of position in the bar of the change, and on closing what is held
        over the last bar, in that bar.

    Returns
    -------
    (n,) net returns. Notional is reset each bar: sums, not products, are the profit.
    """
    positions = _finite(position, "position")
    market = _finite(bar_returns, "bar_returns")
    if positions.size != market.size:
        raise InvalidInput(
            f"position: expected one for each of {market.size} bar returns, found {positions.size}."
        )
    turnover = np.abs(np.diff(positions, prepend=0.0))
    turnover[-1:] += np.abs(positions[-1:])
    net: FloatArray = positions * market - costs.per_side * turnover
    return net


def trades(position: ArrayLike, net: ArrayLike, costs: Costs) -> Trades:
    """Cut a path of net returns into trades, each with its own entry and exit cost.

    A trade is a maximal run of one side; a flip ends one and starts another. The exit is charged
    in the bar after the run (or in the last bar), and on a flip together with the next entry:
    each trade is given its own, so the trades add up to the path.

    Parameters
    ----------
    position : (n,)
        -1, 0 or 1: a trade of changing size has no entry and exit of its own.
    net : (n,)
        `net_returns` of that position.
    costs : Costs
        The same that `net` was charged with.
    """
    sides = _sides(position, "position")
    path = _finite(net, "net")
    if sides.size != path.size:
        raise InvalidInput(
            f"net: expected one return for each of {sides.size} positions, found {path.size}."
        )
    # A run begins wherever the side differs from that of the bar before.
    begins = np.flatnonzero(np.diff(sides, prepend=np.nan) != 0)
    ends = np.append(begins[1:], sides.size) - 1
    if not begins.size:
        return Trades(begins, begins, sides, path)
    side = sides[begins]
    profit = np.add.reduceat(path, begins)
    # The bar after a run carries the run's exit, save at the end of the path, where it was charged
    # in the run itself.
    exits = np.where(side[:-1] != 0, costs.per_side, 0.0)
    profit[:-1] -= exits
    profit[1:] += exits
    real = side != 0
    return Trades(start=begins[real], end=ends[real], side=side[real], net=profit[real])


def _finite(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InvalidInput(f"{name}: expected one dimension, found shape {array.shape}.")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise InvalidInput(
            f"{name}: expected a number for every bar, found {bad.size} NaN or infinite (first in "
            f"bar {bad[0]}). Fill or drop those bars before pricing a position."
        )
    return array


def _sides(values: ArrayLike, name: str) -> FloatArray:
    array = _finite(values, name)
    if not np.isin(array, (-1.0, 0.0, 1.0)).all():
        raise InvalidInput(f"{name}: expected -1, 0 or 1 only, found other values.")
    return array
