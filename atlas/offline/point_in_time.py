"""Features of entity rows: each view asked in parts, the answers put back in the rows' order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from atlas.clickhouse.arrow_results import SentTable, arrow_table
from atlas.clickhouse.column_types import family
from atlas.errors import StoreUnavailable
from atlas.offline.asof import (
    FOUND,
    ROW,
    Scope,
    ViewJoin,
    asked_column,
    candidates_query,
    view_query,
)
from atlas.offline.entity_rows import Block, EntityRows
from atlas.offline.missing_containers import without_marks
from atlas.offline.parts import AskedRows, Part
from atlas.offline.refusals import out_of_memory, told

__all__ = ["PointInTime"]

# An answer's features are held for so many bytes' worth of entity rows at once.
_BLOCK_BYTES = 128 << 20
_MAX_BLOCK_ROWS = 2_000_000
# What ClickHouse should hold of a source for one query: small enough for the processor's caches
# to help, which a hash table over a whole history outgrows.
_PART_BYTES = 256 << 20
# Keys and times of so many entity rows travel with one query.
_PART_ROWS = 500_000
# Fewer rows than these are asked in one part without looking how much there is to read.
_FEW_ROWS = 2_000
_AT_ONCE = 2
# Of one row that the join holds: its order, its place in the hash table, the event.
_ROW_BYTES = 100
_VALUE_BYTES = {"Array": 128, "Map": 128, "Tuple": 64, "String": 32, "JSON": 256}


@dataclass(frozen=True)
class PointInTime:
    """The features of entity rows, each as known at its row's time."""

    entities: EntityRows
    joins: tuple[ViewJoin, ...]
    as_known_then: bool

    def answers(self, client: Client, settings: dict[str, Any]) -> Iterator[pa.Table]:
        """Yield entity rows and features, in the entity rows' order, in bounded pieces."""
        values = 8 * len(self.entities.columns) + sum(map(_values_bytes, self.joins))
        size = max(1, min(_MAX_BLOCK_ROWS, _BLOCK_BYTES // max(1, values)))
        for block in self.entities.blocks(client, settings, size):
            table = block.columns
            for features in self._features(client, settings, block):
                for name, column in zip(features.column_names, features.columns, strict=True):
                    table = table.append_column(name, column)
            yield table

    def text(self) -> str:
        """Return the SQL of each view; the entity rows travel with it, as the table it names."""
        first, last = self.entities.span
        scope = Scope(first, last, as_known_then=self.as_known_then)
        return ";\n\n".join(f"-- {join.view}\n{view_query(join, scope)}" for join in self.joins)

    def _features(
        self, client: Client, settings: Mapping[str, Any], block: Block
    ) -> Iterator[pa.Table]:
        """Yield each view's features of a block's rows, in the rows' order."""
        views = [self._view(client, settings, join, block) for join in self.joins]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="history") as pool:
            asked: list[list[Future[list[pa.Table]]]] = []
            try:
                for view in views:
                    asked.append([pool.submit(view.ask, part) for part in view.parts()])
                for view, answers in zip(views, asked, strict=True):
                    found = [table for answer in answers for table in answer.result()]
                    answers.clear()
                    yield view.in_order(found)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _view(
        self, client: Client, settings: Mapping[str, Any], join: ViewJoin, block: Block
    ) -> _View:
        rows = AskedRows(block, [key.entity_column for key in join.keys])
        keys = tuple(
            replace(key, entity_type=rows.types[asked_column(position)])
            for position, key in enumerate(join.keys)
        )
        return _View(client, settings, replace(join, keys=keys), rows, self.as_known_then)


@dataclass(frozen=True)
class _View:
    """One view's answers to the rows of one block."""

    client: Client
    settings: Mapping[str, Any]
    join: ViewJoin
    rows: AskedRows
    as_known_then: bool

    def parts(self) -> list[Part]:
        """Cut the rows so that one query neither sends nor holds too much."""
        if len(self.rows) <= _FEW_ROWS:
            return [self.rows.whole]
        width = _ROW_BYTES + _values_bytes(self.join)
        readable = self._readable_rows(None)
        if readable * width > _PART_BYTES and self.join.keys:
            readable = self._readable_rows(self.rows.sent_keys())
        return self.rows.parts(
            max(readable * width // _PART_BYTES, len(self.rows) // _PART_ROWS) + 1
        )

    def ask(self, part: Part) -> list[pa.Table]:
        """Return the part's answers; where memory does not hold it, of its halves."""
        scope = self.rows.scope(part, as_known_then=self.as_known_then)
        with told(f"the join of view {self.join.view} with {self.join.where}"):
            try:
                query, sent = view_query(self.join, scope), self.rows.sent(part)
                return [arrow_table(self.client, query, self.settings, sent)]
            except ClickHouseError as error:
                halves = self.rows.halves(part) if out_of_memory(error) else []
                if not halves:
                    raise
        return [table for half in halves for table in self.ask(half)]

    def in_order(self, answers: list[pa.Table]) -> pa.Table:
        """Put the answers of all parts in the rows' order."""
        found = pa.concat_tables(answers).combine_chunks()
        rows = found[ROW].to_numpy()
        place = np.full(len(self.rows), -1, dtype=np.int64)
        place[rows] = np.arange(rows.size)
        if rows.size != place.size or (place < 0).any():
            raise StoreUnavailable(
                f"Expected one answer of view {self.join.view} for each of {place.size} entity "
                f"rows; found {rows.size}. Ask again."
            )
        if not (place[1:] > place[:-1]).all():
            found = found.take(pa.array(place))
        return without_marks(found.drop_columns([ROW, FOUND]))

    def _readable_rows(self, keys: SentTable | None) -> int:
        """Ask how many rows the table's index cannot rule out by time, or by time and keys.

        0 if it has no index: then only a want of memory tells that they are too many.
        """
        scope = self.rows.scope(self.rows.whole, as_known_then=self.as_known_then)
        of_keys = self.join if keys else replace(self.join, keys=())
        query = f"EXPLAIN ESTIMATE {candidates_query(of_keys, scope)}"
        with told(f"the join of view {self.join.view} with {self.join.where}"):
            found = arrow_table(self.client, query, self.settings, keys)
        return int(pc.sum(found["rows"]).as_py() or 0) if "rows" in found.column_names else 0


def _values_bytes(join: ViewJoin) -> int:
    return sum(_VALUE_BYTES.get(family(feature.source_type), 8) for feature in join.features)
