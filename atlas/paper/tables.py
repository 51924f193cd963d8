"""The tables of the paper trader: orders with what became of them, positions, profits, cursors.

Every key comes from the signals themselves, and nothing tells when or by which process a row was
written: the same signals and bars give the same tables, however often the broker was killed.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
)

from atlas.registry.database import SCHEMA

__all__ = ["CURSORS", "ORDERS", "POSITIONS", "PROFITS"]

CURSORS = Table(
    "paper_cursors",
    SCHEMA,
    Column("stream", String(64), primary_key=True),
    Column("ms", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
"""How far each stream of signals was read: the two halves of a Redis stream id."""

ORDERS = Table(
    "paper_orders",
    SCHEMA,
    Column("stream", String(64), primary_key=True),
    Column("ms", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("model", Text, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("symbol", String(32), nullable=False),
    Column("event_us", BigInteger, nullable=False),
    Column("side", SmallInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("price", Double),
    Column("held", SmallInteger),
    Column("cost", Double),
    Index("paper_orders_status", "status"),
)
"""One row a deciding signal; `held` is the side before it, price and cost those of its fill."""

POSITIONS = Table(
    "paper_positions",
    SCHEMA,
    Column("model", Text, primary_key=True),
    Column("book", String(32), primary_key=True),
    Column("symbol", String(32), primary_key=True),
    Column("stage", String(16), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("side", SmallInteger, nullable=False),
    Column("price", Double, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("cost", Double, nullable=False),
)

PROFITS = Table(
    "paper_profits",
    SCHEMA,
    Column("model", Text, primary_key=True),
    Column("stage", String(16), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("symbol", String(32), primary_key=True),
    Column("from_us", BigInteger, primary_key=True, autoincrement=False),
    Column("to_us", BigInteger, nullable=False),
    Column("side", Integer, nullable=False),
    Column("gross", Double, nullable=False),
    Column("cost", Double, nullable=False),
)
"""One row between two consecutive decisions of a book on a symbol; never changed."""
