"""Make the logs of deployments and of halts; one made before steps were counted keeps its rows."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String, Text, UniqueConstraint

from atlas.registry.migrations.append_only import append_only

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Walk the step."""
    op.create_table(
        "deployments",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("model", Text, nullable=False),
        Column("generation", BigInteger, nullable=False),
        Column("position", Integer, nullable=False),
        Column("action", String(16), nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("from_stage", String(16)),
        Column("to_stage", String(16), nullable=False),
        Column("who", Text, nullable=False),
        Column("why", Text, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        Column("report", Text, nullable=False),
        Column("blob", String(64), nullable=False),
        Column("manifest", Text, nullable=False),
        UniqueConstraint("model", "generation", "position"),
        if_not_exists=True,
    )
    append_only("deployments", identity=("model", "generation", "position"))
    op.create_table(
        "halts",
        Column("sequence", BigInteger, primary_key=True, autoincrement=False),
        Column("kind", String(16), nullable=False),
        Column("who", Text, nullable=False),
        Column("why", Text, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        if_not_exists=True,
    )
    append_only("halts", identity=("sequence",))
