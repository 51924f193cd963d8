"""The schema of the SQL database, as numbered steps from an empty one; Alembic walks them.

To add a table, write two things:

1. The step: `versions/r0004_quotes.py`, after the pattern of `r0003_experiments.py`. Its file name
   begins with `r` and its number, `revision` is that number and `down_revision` the one before.
   `upgrade` makes the table with `alembic.op`; of an append-only table it then says
   `append_only("quotes", identity=(…))`. It names columns in full and imports no `Table`: it
   must do the same in years. A step that was released is never edited; a change is another step.
2. The `Table("quotes", SCHEMA, …)` beside the code that reads and writes it through
   `Database`, both from `atlas.registry.database`. Its module goes to the list in
   `tests/registry/test_migrations.py`, which checks on both engines that the steps make what the
   tables say.

Nothing else: the highest number is the schema's version, and the first transaction of a process
walks what is missing, under a lock, in one transaction.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from atlas.errors import StoreUnavailable

__all__ = ["VERSION_TABLE", "bring_up_to_date", "is_current", "steps"]

# Not Alembic's own name: MLflow and Prefect may share a PostgreSQL database with Atlas.
VERSION_TABLE = "atlas_schema"

_STEPS = Path(__file__).parent / "versions"


def steps() -> tuple[str, ...]:
    """Return the numbers of all steps, oldest first."""
    return tuple(sorted(path.name[1:5] for path in _STEPS.glob("r[0-9]*.py")))


def bring_up_to_date(engine: Engine, *, shown: str) -> None:
    """Walk the steps that the database lacks; any number of processes may call this at once.

    Parameters
    ----------
    shown : str
        The database's address as errors may print it.

    Raises
    ------
    StoreUnavailable
        If a newer Atlas made the database.
    """
    with engine.begin() as connection:
        if is_current(connection, shown):
            return
    # Alembic takes longer to import than most commands to run, and is needed once a release.
    from atlas.registry.migrations.walk import walk

    walk(engine, shown)


def is_current(connection: Connection, shown: str) -> bool:
    """Tell whether the database lacks no step.

    Raises
    ------
    StoreUnavailable
        If a newer Atlas made the database.
    """
    if not inspect(connection).has_table(VERSION_TABLE):
        return False
    found = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    known = steps()
    if found is not None and found not in known:
        raise StoreUnavailable(
            f"Expected the SQL database at {shown} to have a schema of version {known[-1]} or "
            f"older; found {found}, which a newer Atlas made. Install that release, or a later one."
        )
    return bool(found == known[-1])
