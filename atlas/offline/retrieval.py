"""The job that Feast runs to get rows, and the simplest question: one SELECT."""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.arrow_results import arrow_batches
from atlas.clickhouse.clients import client_of, query_settings
from atlas.errors import InvalidInput
from atlas.offline.exact_integers import kept_exact
from atlas.offline.feast_internals import RetrievalJob, RetrievalMetadata
from atlas.offline.refusals import told
from atlas.offline.saved_datasets import save

__all__ = ["ClickHouseRetrievalJob", "Pull"]


class Question(Protocol):
    """What a job asks of ClickHouse."""

    def answers(self, client: Client, settings: dict[str, Any]) -> Iterator[pa.Table]:
        """Yield the answer in order, piece by piece; at least one, which may be empty."""
        ...

    def text(self) -> str:
        """Return the SQL."""
        ...


@dataclass(frozen=True)
class Pull:
    """One SELECT."""

    query: str

    def answers(self, client: Client, settings: dict[str, Any]) -> Iterator[pa.Table]:
        """Yield the rows as ClickHouse sends them."""
        with (
            told("the pull of a source"),
            arrow_batches(client, self.query, settings) as (schema, batches),
        ):
            yield schema.empty_table()
            for batch in batches:
                yield pa.Table.from_batches([batch])

    def text(self) -> str:
        """Return the SQL."""
        return self.query


class ClickHouseRetrievalJob(RetrievalJob):
    """A question to ClickHouse that is asked when its answer is wanted."""

    def __init__(
        self,
        config: Any,
        question: Question,
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[Any] = (),
        metadata: RetrievalMetadata | None = None,
        time_column: str = "event_timestamp",
    ) -> None:
        self._config = config
        self._question = question
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._metadata = metadata
        self._time_column = time_column

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are called `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """The views that Feast computes on the answer."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for: features, keys, and the span of time."""
        return self._metadata

    def to_sql(self) -> str:
        """Return the SQL."""
        return self._question.text()

    def to_arrow_batches(self, timeout: int | None = None) -> pa.RecordBatchReader:
        """Return the answer as a stream, of which only a piece is held at a time.

        The schema is known at once, also of an answer without rows.

        Raises
        ------
        InvalidInput
            If on-demand features are asked for: Feast computes those on whole tables.
        StoreUnavailable
            If ClickHouse does not answer within its limits; also while the stream is read.
        """
        if self._on_demand_feature_views:
            names = ", ".join(view.name for view in self._on_demand_feature_views)
            raise InvalidInput(
                "Expected features that ClickHouse has, to stream them; found the on-demand views "
                f"{names}. Use to_arrow(), or compute them on each batch."
            )
        answers = self._answers(timeout)
        first = next(answers)
        batches = (batch for table in chain([first], answers) for batch in table.to_batches())
        return pa.RecordBatchReader.from_batches(first.schema, batches)

    def _answers(self, timeout: int | None) -> Iterator[pa.Table]:
        settings = query_settings(self._config, timeout)
        return self._question.answers(client_of(self._config), settings)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return kept_exact(pa.concat_tables(self._answers(timeout)))

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def persist(
        self,
        storage: Any,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Write the answer, on-demand features included, to a table of its own.

        Raises
        ------
        InvalidInput
            If the storage is not ClickHouse's.
        SavedDatasetLocationAlreadyExists
            If the table is there and may not be overwritten.
        """
        client = client_of(self._config)
        if self._on_demand_feature_views:
            table = self.to_arrow(timeout=timeout)
            schema, batches = table.schema, iter(table.to_batches())
        else:
            reader = self.to_arrow_batches(timeout)
            schema, batches = reader.schema, iter(reader)
        with told(f"the dataset saved in {getattr(storage, 'table', storage)}"):
            save(client, storage, schema, batches, allow_overwrite=allow_overwrite)
        # What the registry keeps of the dataset, so that it can be read back.
        storage.timestamp_field = self._time_column
