"""How the entity rows of a block are cut so that one query's share of the source fits in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas.clickhouse.arrow_results import SentTable
from atlas.clickhouse.column_types import clickhouse_type
from atlas.errors import InvalidInput
from atlas.offline.asof import ASKED, ROW, TIME, Scope, asked_column
from atlas.offline.entity_rows import Block, moment

__all__ = ["AskedRows", "Part"]

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of a block's rows in the order of key and time."""

    start: int
    stop: int
    slice_of_key: bool = False
    """Whether other parts ask for the same key at other times."""


class AskedRows:
    """Keys and times of a block, as one view sees them.

    Parameters
    ----------
    keys : sequence of str
        The block's columns that the view joins on; none for a view without entities.

    Raises
    ------
    InvalidInput
        If a key is of a type that cannot be compared.
    """

    def __init__(self, block: Block, keys: Sequence[str]) -> None:
        self._times, self._timed = block.times, block.timed
        self._keys = {
            asked_column(position): _comparable(block.columns[key], key)
            for position, key in enumerate(keys)
        }
        self.types = {
            name: clickhouse_type(column.type, key)
            for (name, column), key in zip(self._keys.items(), keys, strict=True)
        }

    def __len__(self) -> int:
        return len(self._times)

    @property
    def whole(self) -> Part:
        """All rows."""
        return Part(0, len(self))

    def parts(self, count: int) -> list[Part]:
        """Cut all rows into about `count` parts: between keys, or in time where keys are few."""
        if count <= 1 or len(self) < 2:
            return [self.whole]
        borders = self._borders
        if len(borders) > count:
            chosen = borders[np.linspace(0, len(borders) - 1, count + 1).astype(np.int64)]
            return [Part(int(a), int(b)) for a, b in pairwise(chosen)]
        slices = -(-count // (len(borders) - 1))
        return [part for a, b in pairwise(borders) for part in self._slices(int(a), int(b), slices)]

    def halves(self, part: Part) -> list[Part]:
        """Cut a part in two, between keys if it has several; none if it is one key at one time."""
        inner = self._borders[(self._borders > part.start) & (self._borders < part.stop)]
        if inner.size:
            cut = int(inner[inner.size // 2])
            return [Part(part.start, cut), Part(cut, part.stop)]
        halves = self._slices(part.start, part.stop, 2)
        return halves if len(halves) > 1 else []

    def scope(self, part: Part, *, as_known_then: bool) -> Scope:
        """Return what a query about the part has to know."""
        rows = self._positions(part)
        known = self._times[rows][self._timed[rows]]
        if not known.size:
            return Scope(None, None, part.slice_of_key, as_known_then)
        first, last = moment(known.min()), moment(known.max(), up=True)
        return Scope(first, last, part.slice_of_key, as_known_then)

    def sent(self, part: Part) -> SentTable:
        """Return the part as the table that a view's query reads."""
        rows = self._positions(part)
        columns = {
            ROW: pa.array(rows.astype(np.uint32)),
            TIME: pa.array(self._times[rows], mask=~self._timed[rows]),
            **{
                name: column if self._is_whole(part) else column.take(pa.array(rows))
                for name, column in self._keys.items()
            },
        }
        types = {ROW: "UInt32", TIME: "Nullable(Int64)", **self.types}
        return SentTable(ASKED, pa.table(columns), types)

    def sent_keys(self) -> SentTable:
        """Return each combination of keys once, as the same table, with one of its times."""
        firsts = self._order[self._borders[:-1]]
        columns = {
            ROW: pa.array(np.arange(firsts.size, dtype=np.uint32)),
            TIME: pa.array(self._times[firsts]),
            **{name: column.take(pa.array(firsts)) for name, column in self._keys.items()},
        }
        types = {ROW: "UInt32", TIME: "Nullable(Int64)", **self.types}
        return SentTable(ASKED, pa.table(columns), types)

    def _is_whole(self, part: Part) -> bool:
        return part.stop - part.start == len(self)

    def _positions(self, part: Part) -> Positions:
        if self._is_whole(part):
            return np.arange(len(self))
        return self._order[part.start : part.stop]

    def _slices(self, start: int, stop: int, count: int) -> list[Part]:
        """Cut rows of one key at times; rows of one time stay together."""
        times = self._times[self._order[start:stop]]
        wanted = times[np.linspace(0, times.size, count, endpoint=False).astype(np.int64)[1:]]
        cuts = np.unique(np.searchsorted(times, wanted))
        borders = [start, *(start + int(cut) for cut in cuts if cut), stop]
        return [Part(a, b, slice_of_key=True) for a, b in pairwise(borders)]

    @cached_property
    def _codes(self) -> Positions:
        """A number for each combination of keys, in the keys' own order.

        A table sorted by key then holds the rows of a part side by side.
        """
        codes = np.zeros(len(self), dtype=np.int64)
        for column in self._keys.values():
            digits, distinct = _ranks(column)
            codes = codes * (distinct + 1) + digits
            if len(self._keys) > 1:
                # So that the product over many keys stays a small number.
                codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
        return codes

    @cached_property
    def _order(self) -> Positions:
        return np.lexsort((self._times, self._codes)).astype(np.int64)

    @cached_property
    def _borders(self) -> Positions:
        """Where in the order another key begins; first 0, last the number of rows."""
        codes = self._codes[self._order]
        inner = np.flatnonzero(codes[1:] != codes[:-1]) + 1
        return np.concatenate([[0], inner, [len(self)]]).astype(np.int64)


def _ranks(column: pa.Array) -> tuple[Positions, int]:
    """Return each value's place among the distinct ones, with null the last, and how many."""
    found = column.dictionary_encode()
    distinct = len(found.dictionary)
    ranks = np.empty(distinct + 1, dtype=np.int64)
    ranks[pc.array_sort_indices(found.dictionary).to_numpy()] = np.arange(distinct)
    ranks[distinct] = distinct
    return ranks[found.indices.fill_null(distinct).to_numpy()], distinct


def _comparable(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Return a key's values in one piece, decoded; NaN, which pandas puts for missing, is null."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    elif pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    elif pa.types.is_null(kind) or pa.types.is_string_view(kind):
        column = column.cast(pa.string())
    elif pa.types.is_nested(kind):
        raise InvalidInput(
            f"Expected the entity key {name!r} to hold numbers, text or moments; found {kind}. "
            "Convert the column before asking for features."
        )
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
