"""Where Feast finds a view's rows in ClickHouse: a table or a query, and its columns."""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from feast import RepoConfig, ValueType
from feast.credentials import ConnectionRef
from feast.data_source import DataSource

from atlas.clickhouse import sql
from atlas.clickhouse.clients import client_of
from atlas.clickhouse.column_types import is_time
from atlas.errors import InvalidInput
from atlas.offline.feast_internals import DataSourceProto
from atlas.offline.feast_types import feast_type
from atlas.offline.missing_containers import is_mark
from atlas.offline.refusals import told

__all__ = ["ClickHouseSource", "configuration"]

# ClickHouse's own codes: UNKNOWN_TABLE and UNKNOWN_DATABASE.
_NOT_THERE = (60, 81)


class ClickHouseSource(DataSource):
    """Rows of features in ClickHouse.

    Parameters
    ----------
    name : str
        Unique in the project; defaults to `table`.
    table : str
        `table`, of the store's database, or `database.table`; in backticks where a name has a dot
        of its own. Either this or `query`.
    query : str
        A SELECT; a semicolon or a comment behind it is left out.
    timestamp_field : str
        Column with the moment at which a row's values became known.
    created_timestamp_column : str
        Column with the moment at which this version of the row became known; the later version
        wins, and bitemporal retrieval hides versions not yet known.
    field_mapping : dict
        From the source's column names to the features' names.

    Raises
    ------
    InvalidInput
        If neither or both of `table` and `query` are given, or there is no name.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        table: str | None = None,
        query: str | None = None,
        timestamp_field: str = "",
        created_timestamp_column: str = "",
        field_mapping: dict[str, str] | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
        owner: str = "",
        connection_ref: ConnectionRef | None = None,
    ) -> None:
        if bool(table) == bool(query):
            raise InvalidInput(
                f"Expected source {name or table!r} to name either a table or a query; found "
                f"table={table!r} and query={query!r}. Give exactly one."
            )
        if not (name or table):
            raise InvalidInput(
                "Expected a source with a query to have a name; found none. Give name=…."
            )
        self.table = table or ""
        self.query = sql.statement(query or "")
        super().__init__(
            name=name or self.table,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
            connection_ref=connection_ref,
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ClickHouseSource)
            and bool(super().__eq__(other))
            and (self.table, self.query) == (other.table, other.query)
        )

    def __hash__(self) -> int:
        return hash((self.name, self.timestamp_field, self.table, self.query))

    def __repr__(self) -> str:
        given = {
            "name": self.name,
            "table": self.table,
            "query": self.query,
            "timestamp_field": self.timestamp_field,
            "created_timestamp_column": self.created_timestamp_column,
            "field_mapping": self.field_mapping,
        }
        told = ", ".join(f"{name}={value!r}" for name, value in given.items() if value)
        return f"ClickHouseSource({told})"

    def source_type(self) -> Any:
        """Return Feast's kind of source."""
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: Any) -> ClickHouseSource:
        """Rebuild from what the registry keeps."""
        where = json.loads(data_source.custom_options.configuration)
        tags = dict(data_source.tags)
        connection = ConnectionRef.from_tags(tags)
        # Feast writes the connection's tags again, beside those that the source was given.
        of_connection = connection.to_tags() if connection else {}
        return ClickHouseSource(
            name=data_source.name,
            table=where["table"] or None,
            query=where["query"] or None,
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column,
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags={name: tag for name, tag in tags.items() if name not in of_connection},
            owner=data_source.owner,
            connection_ref=connection,
        )

    def _to_proto_impl(self) -> Any:
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type="atlas.offline.ClickHouseSource",
            field_mapping=self.field_mapping,
            custom_options=configuration(table=self.table, query=self.query),
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def validate(self, config: RepoConfig) -> None:
        """Check that the rows are there, with the moments that the source promises.

        Raises
        ------
        InvalidInput
            If the table or one of its time columns is missing, or holds no moments.
        """
        types = self.column_types(config)
        for role, column in (
            ("timestamp_field", self.timestamp_field),
            ("created_timestamp_column", self.created_timestamp_column),
        ):
            if not column:
                continue
            found = types.get(self.column_of(column))
            if found is None:
                raise InvalidInput(
                    f"Expected {self.where} to have the {role} {column!r}; found the columns "
                    f"{', '.join(types)}. Correct the source {self.name!r}, or add the column."
                )
            if not is_time(found):
                raise InvalidInput(
                    f"Expected the {role} {column!r} of {self.where} to be a Date, DateTime or "
                    f"DateTime64; found {found}. Convert it in a query: "
                    f"SELECT parseDateTime64BestEffort({column}, 6, 'UTC') AS {column}, …"
                )

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """Return the function from column types to Feast's."""
        return feast_type

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        """Return the columns that Feast may know of and their types, in the table's order."""
        types = self.column_types(config)
        return [(name, kind) for name, kind in types.items() if not is_mark(name)]

    def get_table_query_string(self) -> str:
        """Return what stands after FROM."""
        return sql.table(self.table) if self.table else f"({self.query})"

    @property
    def where(self) -> str:
        """Name the rows in a message."""
        return f"table {self.table}" if self.table else f"the query of source {self.name!r}"

    def column_of(self, feature: str) -> str:
        """Return the source's column behind a mapped name."""
        return next((c for c, mapped in self.field_mapping.items() if mapped == feature), feature)

    def column_types(self, config: RepoConfig) -> dict[str, str]:
        """Return type by column, as ClickHouse describes them.

        Raises
        ------
        InvalidInput
            If the table does not exist, or the query does not run.
        StoreUnavailable
            If ClickHouse does not answer.
        """
        client = client_of(config.offline_store)
        try:
            with told(self.where):
                described = client.query(f"DESCRIBE TABLE {self.get_table_query_string()}")
        except InvalidInput as error:
            if not self.table or getattr(error.__cause__, "code", None) not in _NOT_THERE:
                raise
            raise InvalidInput(
                f"Expected table {self.table} in ClickHouse database "
                f"{config.offline_store.database!r}; found none. Create it (`make up`, or `atlas "
                f"features`, makes Atlas's own), or correct the source {self.name!r}."
            ) from error
        return {row[0]: row[1] for row in described.result_rows}


def configuration(**where: str) -> Any:
    """Return what the registry keeps of a place in ClickHouse."""
    return DataSourceProto.CustomSourceOptions(
        configuration=json.dumps(where, sort_keys=True).encode()
    )
