"""Make the books of the paper trader; ones made before steps were counted keep their rows."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, SmallInteger, String, Text

from atlas.registry.migrations.append_only import append_only

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Walk the step."""
    op.create_table(
        "paper_cursors",
        Column("stream", String(64), primary_key=True),
        Column("ms", BigInteger, nullable=False),
        Column("seq", BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "paper_orders",
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
        if_not_exists=True,
    )
    op.create_index("paper_orders_status", "paper_orders", ["status"], if_not_exists=True)
    op.create_table(
        "paper_positions",
        Column("model", Text, primary_key=True),
        Column("book", String(32), primary_key=True),
        Column("symbol", String(32), primary_key=True),
        Column("stage", String(16), nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("side", SmallInteger, nullable=False),
        Column("price", Double, nullable=False),
        Column("since_us", BigInteger, nullable=False),
        Column("cost", Double, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "paper_profits",
        Column("model", Text, primary_key=True),
        Column("stage", String(16), primary_key=True),
        Column("version", BigInteger, primary_key=True, autoincrement=False),
        Column("symbol", String(32), primary_key=True),
        Column("from_us", BigInteger, primary_key=True, autoincrement=False),
        Column("to_us", BigInteger, nullable=False),
        Column("side", Integer, nullable=False),
        Column("gross", Double, nullable=False),
        Column("cost", Double, nullable=False),
        if_not_exists=True,
    )
    append_only("paper_profits", identity=("model", "stage", "version", "symbol", "from_us"))
