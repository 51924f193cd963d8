"""How a frame is split by a schema into good rows, and bad rows with their reasons.

The answer is pandera's own (a property test holds the two together), found in one pass over the
frame: `validate(lazy=True)` asks each rule apart, which for a feature schema takes 50 ms a call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandera.polars as pa
import polars as pl

from atlas.errors import InvalidInput
from atlas.schemas.candles import KNOWN_BEFORE_EVENT
from atlas.schemas.float_bounds import FloatBounds

__all__ = ["Split", "find_faults", "split_valid"]

Schema: TypeAlias = type[pa.DataFrameModel] | pa.DataFrameSchema


class Split(NamedTuple):
    """Rows that keep a schema, and rows that do not, with a text column `reason` added."""

    good: pl.DataFrame
    bad: pl.DataFrame


def split_valid(schema: Schema, rows: pl.DataFrame) -> Split:
    """Tell the rows that keep a schema from those that break it; order is kept in both.

    Arguments and errors are those of `find_faults`.
    """
    reasons = find_faults(schema, rows)
    broken = reasons.is_not_null()
    return Split(rows.filter(~broken), rows.with_columns(reasons).filter(broken))


def find_faults(schema: Schema, rows: pl.DataFrame) -> pl.Series:
    """Return for each row why it breaks a schema, null where it does not.

    Parameters
    ----------
    schema : pandera (polars) model or schema
        Whose checks judge row by row.
    rows : frame
        With the schema's columns, in its order.

    Returns
    -------
    series of text named `reason`
        Several reasons are separated by "; ".

    Raises
    ------
    InvalidInput
        If the columns are not the schema's: then no row can be judged.
    """
    rules = _rules_of_model(schema) if isinstance(schema, type) else _rules_of(schema)
    _check_columns(rules, rows)
    if rules.floats.hold(rows):
        rules = rules.without_floats
    verdicts = rows.select(
        *(rule.holds.alias(f"{place}") for place, rule in enumerate(rules.simple)),
        *(rule.judge(rows).alias(f"other {place}") for place, rule in enumerate(rules.others)),
    )
    broken = ~verdicts.select(pl.all_horizontal(pl.all(), pl.lit(True))).to_series()
    reasons = pl.repeat(None, rows.height, dtype=pl.String, eager=True).alias("reason")
    if not broken.any():
        return reasons
    failed = verdicts.filter(broken)
    told = rows.filter(broken).select(
        pl.concat_list(
            pl.when(~failed[place]).then(reason)
            for place, reason in zip(failed.columns, rules.reasons, strict=True)
        )
        .list.drop_nulls()
        .list.unique(maintain_order=True)
        .list.join("; ")
    )
    return reasons.scatter(broken.arg_true(), told.to_series())


@dataclass(frozen=True)
class _Simple:
    """A rule over one column as one expression: true where a row keeps it."""

    holds: pl.Expr
    reason: pl.Expr
    floats: bool = False
    """Whether `FloatBounds` speaks of it as well."""


@dataclass(frozen=True)
class _Other:
    """A rule that only pandera can judge."""

    check: pa.Check
    column: str | None
    reason: pl.Expr

    def judge(self, rows: pl.DataFrame) -> pl.Series:
        verdict: pl.Series = self.check(rows.lazy(), self.column).check_output.collect().to_series()
        if verdict.len() != rows.height:
            raise InvalidInput(
                f"Expected a check that judges row by row; found {self.check.name!r}, which gives "
                f"{verdict.len()} answers for {rows.height} rows. Check whole frames with pandera."
            )
        return verdict.fill_null(bool(self.check.ignore_na))


@dataclass(frozen=True)
class _Rules:
    schema: str
    columns: dict[str, Any]
    simple: tuple[_Simple, ...]
    others: tuple[_Other, ...]
    floats: FloatBounds

    @cached_property
    def frame_schema(self) -> pl.Schema:
        """The columns as a frame has them."""
        return pl.Schema(self.columns)

    @cached_property
    def without_floats(self) -> _Rules:
        """The rules that are left where the float columns are known to keep theirs."""
        return replace(self, simple=tuple(rule for rule in self.simple if not rule.floats))

    @property
    def reasons(self) -> tuple[pl.Expr, ...]:
        return (*(rule.reason for rule in self.simple), *(rule.reason for rule in self.others))


@lru_cache(maxsize=64)
def _rules_of_model(model: type[pa.DataFrameModel]) -> _Rules:
    return _rules_of(model.to_schema())


def _rules_of(schema: pa.DataFrameSchema) -> _Rules:
    simple: list[_Simple] = []
    others: list[_Other] = []
    if schema.unique or any(
        column.unique or column.regex or not column.required for column in schema.columns.values()
    ):
        raise InvalidInput(
            f"Expected a schema that judges row by row; {schema.name} asks for unique values, or "
            "has columns that are optional or named by a pattern."
        )
    for name, column in schema.columns.items():
        kind = column.dtype.type
        is_float = kind in (pl.Float32, pl.Float64)
        own: list[_Simple] = []
        if not column.nullable:
            own.append(_present(name, is_float=is_float))
        for check in column.checks:
            bound = _BOUNDS.get(check.name)
            if bound is None or not check.ignore_na:
                others.append(_Other(check, name, pl.lit(f"{name}: {check.error or check.name}")))
            else:
                own.append(_bounded(name, bound, check.statistics, is_float=is_float))
        simple += [replace(rule, floats=kind == pl.Float64) for rule in own]
    for check in schema.checks:
        holds = _COMPARISONS.get(check.error) if check.ignore_na else None
        if holds is not None:
            simple.append(_Simple(holds.fill_null(True), pl.lit(check.error)))
        else:
            others.append(_Other(check, None, pl.lit(check.error or check.name or str(check))))
    types = {name: column.dtype.type for name, column in schema.columns.items()}
    return _Rules(str(schema.name), types, tuple(simple), tuple(others), _float_bounds(schema))


def _present(name: str, *, is_float: bool) -> _Simple:
    value = pl.col(name)
    holds = value.is_not_null()
    # As in pandera, a NaN is no value of a column that must have one.
    return _Simple(
        holds & value.is_not_nan() if is_float else holds,
        _unless_nan(name, pl.lit(f"{name} is missing"), is_float=is_float),
    )


# What pandera needs most of a millisecond for, by the error that each of our schemas gives it.
_COMPARISONS = {KNOWN_BEFORE_EVENT: pl.col("known_at") >= pl.col("event_timestamp")}

Bound: TypeAlias = Callable[[pl.Expr, Any], pl.Expr]

# Pandera's name of a check, the argument it takes, the comparison and how its failure is told.
_BOUNDS: dict[str, tuple[str, Bound, str]] = {
    "greater_than": ("min_value", pl.Expr.gt, "not above"),
    "greater_than_or_equal_to": ("min_value", pl.Expr.ge, "below"),
    "less_than": ("max_value", pl.Expr.lt, "not below"),
    "less_than_or_equal_to": ("max_value", pl.Expr.le, "above"),
    "str_matches": ("pattern", lambda text, pattern: text.str.contains(pattern), "not like"),
}


def _bounded(
    name: str, bound: tuple[str, Bound, str], arguments: dict[str, Any], *, is_float: bool
) -> _Simple:
    argument, compare, told = bound
    limit = arguments[argument]
    text = f"{name} is {told} {limit}"
    if isinstance(limit, float) and math.isinf(limit):
        text = f"{name} is not finite"
    return _Simple(
        # A null is judged by `nullable` alone.
        compare(pl.col(name), limit).fill_null(True),
        _unless_nan(name, pl.lit(text), is_float=is_float),
    )


def _float_bounds(schema: pa.DataFrameSchema) -> FloatBounds:
    """Gather what the simple rules ask of the float columns."""
    names = [name for name, column in schema.columns.items() if column.dtype.type == pl.Float64]
    above, below = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    for place, name in enumerate(names):
        for check in schema.columns[name].checks:
            if check.name not in _BOUNDS or not check.ignore_na:
                continue
            argument, _, told = _BOUNDS[check.name]
            if argument == "pattern":
                continue
            limit = float(check.statistics[argument])
            if argument == "min_value":
                least = limit if told == "below" else np.nextafter(limit, np.inf)
                above[place] = max(above[place], least)
            else:
                most = limit if told == "above" else np.nextafter(limit, -np.inf)
                below[place] = min(below[place], most)
    needed = np.array([not schema.columns[name].nullable for name in names], dtype=bool)
    return FloatBounds(tuple(names), above, below, needed)


def _unless_nan(name: str, reason: pl.Expr, *, is_float: bool) -> pl.Expr:
    if not is_float:
        return reason
    nan = pl.col(name).is_nan().fill_null(False)
    return pl.when(nan).then(pl.lit(f"{name} is NaN")).otherwise(reason)


def _check_columns(rules: _Rules, rows: pl.DataFrame) -> None:
    if rows.schema == rules.frame_schema:
        return
    found = dict(rows.schema)
    wrong = [
        f"{name} {kind}" + (f" (found {found[name]})" if name in found else " (missing)")
        for name, kind in rules.columns.items()
        if found.get(name) != kind
    ]
    extra = [name for name in found if name not in rules.columns]
    detail = [*wrong, *(f"no column {name}" for name in extra)]
    raise InvalidInput(
        f"Expected a frame of {rules.schema}: "
        + ("; ".join(detail) if detail else "its columns in the schema's order")
        + f". Found the columns {', '.join(found)}."
    )
