"""How a table is made append-only: no row is changed or deleted, not even by hand."""

from __future__ import annotations

from alembic import op

__all__ = ["append_only"]

_SQLITE_GUARDS = {
    "no_update": "BEFORE UPDATE ON {table}",
    "no_delete": "BEFORE DELETE ON {table}",
    # INSERT OR REPLACE deletes the older row without asking the trigger above.
    "no_replace": "BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})",
}

# The error's class is the one that SQLite gives.
_POSTGRESQL_FUNCTION = """
CREATE OR REPLACE FUNCTION atlas_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
    USING ERRCODE = 'integrity_constraint_violation';
END $$
"""
# By statement, so that TRUNCATE and ON CONFLICT DO UPDATE are refused too; always, so that a
# session that replays replication is no way around it.
_POSTGRESQL_GUARD = (
    "DROP TRIGGER IF EXISTS {table}_append_only ON {table}",
    "CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
    "FOR EACH STATEMENT EXECUTE FUNCTION atlas_append_only()",
    "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only",
)


def append_only(table: str, *, identity: tuple[str, ...]) -> None:
    """Let the database refuse every change of a row; call it in a step, after making the table.

    Parameters
    ----------
    identity : tuple of str
        Columns by which two rows would be the same row; the table must hold them unique.
    """
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_POSTGRESQL_FUNCTION)
        for statement in _POSTGRESQL_GUARD:
            op.execute(statement.format(table=table))
        return
    same = " AND ".join(f"{column} = NEW.{column}" for column in identity)
    for name, event in _SQLITE_GUARDS.items():
        op.execute(
            f"CREATE TRIGGER IF NOT EXISTS {table}_{name} {event.format(table=table, same=same)} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
