"""The paper trader's books in SQL, each step written in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import polars as pl
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from atlas.matured import PROFIT_SCHEMA
from atlas.paper.position import Position, Profit, book_of
from atlas.paper.tables import CURSORS, ORDERS, POSITIONS, PROFITS
from atlas.registry.database import Database
from atlas.serving import Signal, Stage

__all__ = ["Order", "PaperLedger", "Status", "Turn"]

_BEGINNING = "0-0"
_BOOK_KEY = ("model", "book", "symbol")
_ORDER_KEY = ("stream", "ms", "seq")
_OUTCOME = ("status", "reason", "price", "held", "cost")

_Book = tuple[str, str, str]


class Status(StrEnum):
    """What became of an order."""

    WAITING = "waiting"
    """For the bar of its decision."""
    FILLED = "filled"
    UNPRICED = "unpriced"
    """No bar of its decision came; the position was left as it was."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Order:
    """A deciding signal, and what became of it."""

    stream: str
    entry: str
    """Its id in the stream."""
    model: str
    version: int
    stage: Stage
    symbol: str
    event_us: int
    side: int
    status: Status = Status.WAITING
    reason: str = ""
    price: float | None = None
    held: int | None = None
    """The side before it."""
    cost: float | None = None

    @staticmethod
    def of(stream: str, entry: str, signal: Signal) -> Order:
        """Build from an entry of a stream of signals."""
        return Order(
            stream,
            entry,
            signal.model,
            signal.version,
            signal.stage,
            signal.symbol,
            signal.event_us,
            signal.side,
        )

    @property
    def book(self) -> _Book:
        """Model, book and symbol: the position that it changes."""
        return self.model, book_of(self.stage, self.version), self.symbol


class PaperLedger:
    """Orders, positions, profits and cursors; any number of brokers take turns in writing them.

    Parameters
    ----------
    url : str
        SQLAlchemy's address of the database.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def cursor(self, stream: str) -> str:
        """Return the id of the last entry of a stream that was taken."""
        with self._database.transaction() as connection:
            found = connection.execute(select(CURSORS).where(CURSORS.c.stream == stream)).first()
            return _BEGINNING if found is None else f"{found.ms}-{found.seq}"

    def keeps(self, stream: str) -> bool:
        """Tell whether a broker has ever read this stream."""
        return self.cursor(stream) != _BEGINNING

    def take(self, stream: str, orders: Sequence[Order], *, after: str, upto: str) -> bool:
        """Keep the orders of a stretch of a stream, and move its cursor past it.

        Returns
        -------
        False, and nothing is kept, if the cursor does not stand at `after`: another broker was
        faster.
        """
        (ms, seq), (old_ms, old_seq) = _halves(upto), _halves(after)
        try:
            with self._database.transaction() as connection:
                if after == _BEGINNING:
                    connection.execute(insert(CURSORS), {"stream": stream, "ms": ms, "seq": seq})
                else:
                    at = CURSORS.c
                    # First of all: it holds off every other broker until this has ended.
                    moved = connection.execute(
                        update(CURSORS)
                        .where(at.stream == stream, at.ms == old_ms, at.seq == old_seq)
                        .values(ms=ms, seq=seq)
                    )
                    if not moved.rowcount:
                        return False
                if orders:
                    connection.execute(insert(ORDERS), [_row(order) for order in orders])
        except IntegrityError:
            return False
        return True

    def waiting(self, limit: int) -> tuple[Order, ...]:
        """Return the oldest orders that wait for their bar, in the order in which to fill them."""
        with self._database.transaction() as connection:
            return _waiting(connection, limit)

    @contextmanager
    def turn(self, limit: int) -> Iterator[Turn]:
        """Open a transaction in which nobody else fills orders; it commits at the block's end."""
        with self._database.transaction() as connection:
            # The cursors are what brokers meet on. A first write, before anything is read.
            connection.execute(update(CURSORS).values(ms=CURSORS.c.ms))
            turn = Turn(connection, limit)
            yield turn
            turn.write()

    def orders(self) -> tuple[Order, ...]:
        """Return all orders, by stream and entry."""
        with self._database.transaction() as connection:
            at = ORDERS.c
            rows = connection.execute(select(ORDERS).order_by(at.stream, at.ms, at.seq))
            return tuple(map(_order, rows))

    def positions(self) -> dict[_Book, Position]:
        """Return what is held, by model, book and symbol."""
        with self._database.transaction() as connection:
            rows = connection.execute(select(POSITIONS))
            return {(row.model, row.book, row.symbol): _position(row) for row in rows}

    def profits(
        self,
        model: str | None = None,
        *,
        stage: Stage | None = None,
        version: int | None = None,
        since_us: int | None = None,
    ) -> pl.DataFrame:
        """Return profit rows, `PROFIT_SCHEMA`, by their key; of all that is not said.

        Parameters
        ----------
        since_us : int or None
            Rows whose first decision was then or later.
        """
        at = PROFITS.c
        query = select(*(at[name] for name in PROFIT_SCHEMA))
        for column, wanted in ((at.model, model), (at.stage, stage), (at.version, version)):
            query = query if wanted is None else query.where(column == wanted)
        if since_us is not None:
            query = query.where(at.from_us >= since_us)
        query = query.order_by(at.model, at.stage, at.version, at.symbol, at.from_us)
        with self._database.transaction() as connection:
            rows = [tuple(row) for row in connection.execute(query)]
        return pl.DataFrame(rows, schema=PROFIT_SCHEMA, orient="row")


class Turn:
    """One transaction in which orders are filled: read whole, and written whole at the end."""

    def __init__(self, connection: Connection, limit: int) -> None:
        self._connection = connection
        self.waiting = _waiting(connection, limit)
        """The oldest orders that wait for their bar, in the order in which to fill them."""
        models = {order.model for order in self.waiting}
        held = connection.execute(select(POSITIONS).where(POSITIONS.c.model.in_(models)))
        self._before = {(row.model, row.book, row.symbol): _position(row) for row in held}
        self._now: dict[_Book, Position] = {}
        self._ended: list[Order] = []
        self._profits: list[dict[str, Any]] = []

    def position(self, order: Order) -> Position | None:
        """Return what is held of the order's symbol in its book."""
        return self._now.get(order.book) or self._before.get(order.book)

    def end(self, order: Order, status: Status, reason: str) -> None:
        """Record that an order changed no position."""
        self._ended.append(replace(order, status=status, reason=reason))

    def fill(self, order: Order, after: Position, profit: Profit | None) -> None:
        """Record a fill: the order's end, what is held now, and what was earned until now."""
        before = self.position(order)
        side = before.side if before else 0
        self._ended.append(
            replace(order, status=Status.FILLED, price=after.price, held=side, cost=after.cost)
        )
        self._now[order.book] = after
        if profit is not None:
            fields = {**asdict(profit), "stage": str(profit.stage)}
            self._profits.append({"model": order.model, "symbol": order.symbol, **fields})

    def write(self) -> None:
        """Write what was recorded."""
        execute, now = self._connection.execute, self._now
        changed = [dict(zip(_BOOK_KEY, book, strict=True)) for book in now]
        if replaced := [
            key for key, book in zip(changed, now, strict=True) if book in self._before
        ]:
            execute(delete(POSITIONS).where(*_matches(POSITIONS, _BOOK_KEY)), _bound(replaced))
        if changed:
            held = [{**asdict(each), "stage": str(each.stage)} for each in now.values()]
            execute(insert(POSITIONS), [{**key, **p} for key, p in zip(changed, held, strict=True)])
        if self._profits:
            execute(insert(PROFITS), self._profits)
        if self._ended:
            outcome: dict[str, Any] = {name: bindparam(f"its_{name}") for name in _OUTCOME}
            statement = update(ORDERS).where(*_matches(ORDERS, _ORDER_KEY)).values(outcome)
            execute(statement, _bound(_row(order) for order in self._ended))


def _matches(table: Table, key: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    # A parameter may not have the name of a column that is set.
    return (table.c[name] == bindparam(f"its_{name}") for name in key)


def _bound(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{f"its_{name}": value for name, value in row.items()} for row in rows]


def _waiting(connection: Connection, limit: int) -> tuple[Order, ...]:
    at = ORDERS.c
    query = select(ORDERS).where(at.status == Status.WAITING).limit(limit)
    rows = connection.execute(query.order_by(at.ms, at.seq, at.stream))
    return tuple(map(_order, rows))


def _row(order: Order) -> dict[str, Any]:
    fields = asdict(order)
    ms, seq = _halves(fields.pop("entry"))
    return {**fields, "ms": ms, "seq": seq, "stage": str(order.stage), "status": str(order.status)}


def _order(row: Row[Any]) -> Order:
    fields = row._asdict()
    entry = f"{fields.pop('ms')}-{fields.pop('seq')}"
    stage, status = Stage(fields.pop("stage")), Status(fields.pop("status"))
    return Order(**fields, entry=entry, stage=stage, status=status)


def _position(row: Row[Any]) -> Position:
    return Position(Stage(row.stage), row.version, row.side, row.price, row.since_us, row.cost)


def _halves(entry: str) -> tuple[int, int]:
    ms, _, seq = entry.partition("-")
    return int(ms), int(seq)
