"""The paper broker: takes deciding signals into SQL, and fills them at their bar's close.

Signals are taken first, and wait in SQL for their bar; so one symbol whose bars do not come, or a
ClickHouse that is away, holds up nobody else, and a stream that Redis cuts short loses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import timedelta

from clickhouse_connect.driver.client import Client
from redis import Redis

from atlas.bus import SIGNAL_STAGES, is_permitted, read_signals
from atlas.clickhouse import closing_prices
from atlas.fills import Costs
from atlas.market import Interval, interval_of
from atlas.paper.ledger import Order, PaperLedger, Status, Turn
from atlas.paper.position import decide
from atlas.registry import DeploymentLog
from atlas.serving import signals_stream, trades
from atlas.telemetry import get_logger

__all__ = ["Broker"]

log = get_logger(__name__)

_READ = 1_000
_FILLED = 500

_HALTED = "halted: the permit to trade was absent"
_LATE = "late: its book has decided on a bar as new or newer"
_UNKNOWN = "unknown: no such version in the deployment log"
_NO_BAR = "its bar did not come"

_Bar = tuple[Interval, str, int]


class Broker:
    """Trades what models say on paper; any number of brokers may run, and be killed, at any time.

    Parameters
    ----------
    ledger : PaperLedger
        Where orders, positions and profits are kept.
    redis : Redis
        The signals, and the permit.
    clickhouse : Client
        The bars.
    deployments : DeploymentLog
        Says what bars a version trades on.
    costs : Costs
        Of each side of a fill.
    patience : timedelta
        How long to go on asking for a bar that is not there; afterwards its order is unpriced.
    """

    def __init__(
        self,
        ledger: PaperLedger,
        redis: Redis,
        clickhouse: Client,
        deployments: DeploymentLog,
        *,
        costs: Costs,
        patience: timedelta = timedelta(minutes=5),
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._clickhouse = clickhouse
        self._deployments = deployments
        self._costs = costs
        self._patience_s = patience.total_seconds()
        self._intervals: dict[tuple[str, int], Interval] = {}
        self._missed: dict[_Bar, float] = {}

    def step(self) -> int:
        """Take what is new and fill what can be filled; return how much was done, 0 for nothing.

        Raises
        ------
        StoreUnavailable
            If Redis or SQL does not answer. What ClickHouse's client raises passes through.
        """
        return self._take() + self._fill()

    def _take(self) -> int:
        taken = 0
        # Of stages that share a stream, one stands for all.
        for stream, stage in {signals_stream(stage): stage for stage in SIGNAL_STAGES}.items():
            after = self._ledger.cursor(stream)
            signals = read_signals(self._redis, stage, after=after, count=_READ)
            if not signals:
                continue
            orders = [Order.of(stream, entry, said) for entry, said in signals if said.decides]
            if self._ledger.take(stream, orders, after=after, upto=signals[-1][0]):
                taken += len(signals)
        return taken

    def _fill(self) -> int:
        waiting = self._ledger.waiting(_FILLED)
        if not waiting:
            return 0
        self._learn_intervals(waiting)
        prices = self._prices(waiting)
        ended = 0
        with self._ledger.turn(_FILLED) as turn:
            behind: set[tuple[str, str, str]] = set()
            for order in turn.waiting:
                # The decisions of one book are filled in their order.
                if order.book in behind:
                    continue
                if self._settle(turn, order, prices):
                    ended += 1
                else:
                    behind.add(order.book)
        return ended

    def _settle(self, turn: Turn, order: Order, prices: Mapping[_Bar, float]) -> bool:
        """Fill an order, or say why not; return False to leave it waiting."""
        held = turn.position(order)
        if held is not None and order.event_us <= held.since_us:
            turn.end(order, Status.REFUSED, _LATE)
        elif trades(order.stage) and not is_permitted(self._redis):
            # Asked while nobody else can fill, right before the position would change. A bar that
            # comes after the release fills nothing: the decision was made during the halt.
            turn.end(order, Status.REFUSED, _HALTED)
        elif (bar := self._bar(order)) is None:
            turn.end(order, Status.REFUSED, _UNKNOWN)
        elif bar in prices:
            turn.fill(order, *decide(held, order, prices[bar], self._costs))
        elif self._gave_up(bar):
            turn.end(order, Status.UNPRICED, _NO_BAR)
            log.warning("order_unpriced", symbol=order.symbol, event_us=order.event_us)
        else:
            return False
        return True

    def _learn_intervals(self, orders: Iterable[Order]) -> None:
        """Look up on which bars the versions of these orders trade."""
        for model in {o.model for o in orders if (o.model, o.version) not in self._intervals}:
            for version, state in self._deployments.state(model).versions.items():
                self._intervals[model, version] = interval_of(state.manifest.interval)

    def _prices(self, orders: Iterable[Order]) -> dict[_Bar, float]:
        """Return the closes of the bars that these orders wait for; note which are not there."""
        wanted: dict[Interval, set[tuple[str, int]]] = {}
        for bar in filter(None, map(self._bar, orders)):
            wanted.setdefault(bar[0], set()).add(bar[1:])
        prices: dict[_Bar, float] = {}
        missed: dict[_Bar, float] = {}
        for interval, bars in wanted.items():
            closes = closing_prices(self._clickhouse, interval, bars)
            prices |= {(interval, *bar): close for bar, close in closes.items()}
            missing = [(interval, *bar) for bar in bars - closes.keys()]
            # From the first answer that said no: while ClickHouse is away nobody's patience ends.
            missed |= {bar: self._missed.get(bar, time.monotonic()) for bar in missing}
        self._missed = missed
        return prices

    def _gave_up(self, bar: _Bar) -> bool:
        since = self._missed.get(bar)
        return since is not None and time.monotonic() - since >= self._patience_s

    def _bar(self, order: Order) -> _Bar | None:
        interval = self._intervals.get((order.model, order.version))
        return None if interval is None else (interval, order.symbol, order.event_us)
