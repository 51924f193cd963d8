"""Makes the tables in ClickHouse: the stack's component `tables`, `python -m atlas.runtime.tables`.

A process of its own, so that the supervisor needs neither the client nor Arrow.
"""

from __future__ import annotations

import sys

from atlas.clickhouse import connect, create_feature_table, migrate
from atlas.config import Settings, load_settings
from atlas.errors import AtlasError

__all__ = ["make_tables"]


def make_tables(settings: Settings) -> None:
    """Create the database and every table that is not there yet.

    Raises
    ------
    StoreUnavailable
        If ClickHouse does not answer.
    """
    client = connect(host=settings.host, port=settings.clickhouse_port)
    try:
        migrate(client, settings.clickhouse_database)
        # Plain Feast materialises every view that is registered, so each has its table. Imported
        # here: the other tables do not wait for the seconds that the schemas take to load.
        from atlas.features import stored_views

        for features in stored_views():
            create_feature_table(client, features.view, features.kinds)
    finally:
        client.close()


if __name__ == "__main__":
    try:
        make_tables(load_settings())
    except AtlasError as error:
        sys.exit(f"{type(error).__name__}: {error}")
