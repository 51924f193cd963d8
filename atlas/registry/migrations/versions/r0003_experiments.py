"""Make the log of experiments; one made before steps were counted keeps its rows."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String, Text, UniqueConstraint

from atlas.registry.migrations.append_only import append_only

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Walk the step."""
    op.create_table(
        "experiments",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("experiment", BigInteger),
        Column("model", Text, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("step", String(16), nullable=False),
        Column("finding", String(16), nullable=False),
        Column("who", Text, nullable=False),
        Column("why", Text, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        Column("details", Text, nullable=False),
        UniqueConstraint("model", "sequence"),
        if_not_exists=True,
    )
    append_only("experiments", identity=("model", "sequence"))
