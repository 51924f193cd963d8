"""What a model brings to the gates: its trials, windows, trades and hits out of sample."""

import hashlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.errors import InvalidInput

__all__ = ["Evidence"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """Results of one search, net of costs and out of sample; arrays are read-only.

    Shapes are checked here, values at the gates: a NaN makes the gates that read it fail, with the
    reason, and a report on bad evidence is still a report.

    Raises
    ------
    InvalidInput
        If a shape is wrong, windows are not paired, `selected` names no trial, `hits` holds
        anything but yes and no, or features leaked in an audit that was not made.
    """

    trial_returns: FloatArray
    """(n_periods, n_trials) net return per period of EVERY trial of the search, failed ones too."""
    selected: int
    """Column of the trial that is to be deployed."""
    in_sample: tuple[FloatArray, ...]
    """One (n_periods,) array a window: the selected configuration where it was fitted."""
    out_of_sample: tuple[FloatArray, ...]
    """One (n_periods,) array a window: the same, where it was not."""
    trade_returns: FloatArray
    """(n_trades,) net return of each trade of the selected trial out of sample."""
    hits: NDArray[np.bool_]
    """(n,) whether the side predicted was that of the barrier label, out of sample."""
    period: timedelta
    """Length of one period of the returns."""

    forecasts: FloatArray | None = None
    """(m,) a regressor's forecasts out of sample; every regressor brings them, nobody else."""
    targets: FloatArray | None = None
    """(m,) what they were forecasts of."""

    model: str = ""
    features: str = ""
    """Hash of the feature list."""
    data_range: tuple[datetime, datetime] | None = None
    """First and last moment (UTC) of the data that the search has seen."""

    audited: int | None = None
    """Rows whose features were computed again from only what was known at their time."""
    leaked: tuple[str, ...] = ()
    """Names of the features that came out otherwise there."""

    def __post_init__(self) -> None:
        self._put("trial_returns", _array(self.trial_returns, "trial_returns", ndim=2))
        self._put("trade_returns", _array(self.trade_returns, "trade_returns"))
        self._put("in_sample", _windows(self.in_sample, "in_sample"))
        self._put("out_of_sample", _windows(self.out_of_sample, "out_of_sample"))
        self._put("hits", _yes_or_no(self.hits))
        if len(self.in_sample) != len(self.out_of_sample):
            raise InvalidInput(
                f"windows: expected one pair each, found {len(self.in_sample)} in sample and "
                f"{len(self.out_of_sample)} out of sample."
            )
        self._put("selected", _column(self.selected, self.trial_returns.shape[1]))
        if not isinstance(self.period, timedelta) or self.period <= timedelta(0):
            raise InvalidInput(f"period: expected a positive timedelta, found {self.period!r}.")
        if (self.forecasts is None) != (self.targets is None):
            raise InvalidInput("forecasts and targets: expected both or neither, found one.")
        if self.forecasts is not None and self.targets is not None:
            self._put("forecasts", _array(self.forecasts, "forecasts"))
            self._put("targets", _array(self.targets, "targets"))
            if self.forecasts.shape != self.targets.shape:
                raise InvalidInput(
                    f"forecasts: expected one for each of {self.targets.size} targets, found "
                    f"{self.forecasts.size}."
                )

        self._put("audited", _rows(self.audited))
        self._put("leaked", _names(self.leaked))
        if self.leaked and not self.audited:
            raise InvalidInput(
                f"leaked: expected the rows audited with {', '.join(self.leaked)}, found "
                f"{self.audited}. Pass how many rows were computed again."
            )

    def _put(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def n_periods(self) -> int:
        """Periods of the record out of sample."""
        return len(self.trial_returns)

    @property
    def selected_returns(self) -> FloatArray:
        """(n_periods,) returns of the selected trial."""
        return self.trial_returns[:, self.selected]

    @cached_property
    def traded(self) -> NDArray[np.intp]:
        """Columns of the trials that traded: a constant return is that of a trial that did not."""
        moved = (self.trial_returns != self.trial_returns[:1]).any(axis=0)
        return np.flatnonzero(moved)

    @property
    def traded_returns(self) -> FloatArray:
        """(n_periods, n_traded) returns of the trials that traded."""
        if self.traded.size == self.trial_returns.shape[1]:
            return self.trial_returns
        return self.trial_returns[:, self.traded]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that the gates read."""
        digest = hashlib.sha256(f"{self.selected}|{self.period.total_seconds()}".encode())
        arrays = [self.trial_returns, self.trade_returns, self.hits]
        arrays += [*self.in_sample, *self.out_of_sample]
        if self.forecasts is not None and self.targets is not None:
            arrays += [self.forecasts, self.targets]
        for array in arrays:
            digest.update(f"|{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        # Only where there is an audit, so that evidence without one keeps its digest.
        if self.audited is not None:
            digest.update(f"|audited {self.audited}|{'|'.join(self.leaked)}".encode())
        return digest.hexdigest()

    def finite(self, *names: str) -> None:
        """Refuse NaN and infinity in the named fields, as far as they are given.

        Raises
        ------
        InvalidInput
            Naming the first field that holds one.
        """
        for name in names:
            field = getattr(self, name)
            arrays = field if isinstance(field, tuple) else () if field is None else (field,)
            bad = sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays)
            if bad:
                raise InvalidInput(
                    f"{name}: expected finite numbers, found {bad} NaN or infinite. "
                    "Repair the search that left them; they are never dropped here."
                )

    def as_dict(self) -> dict[str, Any]:
        """Return what identifies the evidence, in JSON's types, without the arrays."""
        first, last = self.data_range or (None, None)
        return {
            "digest": self.digest,
            "model": self.model,
            "features": self.features,
            "data_range": [t and t.isoformat() for t in (first, last)],
            "period_seconds": self.period.total_seconds(),
            "n_periods": self.n_periods,
            "n_trials": self.trial_returns.shape[1],
            "selected": self.selected,
            "n_windows": len(self.in_sample),
            "n_trades": self.trade_returns.size,
            "n_hits": self.hits.size,
            "n_forecasts": None if self.forecasts is None else self.forecasts.size,
            "audited": self.audited,
            "leaked": list(self.leaked),
        }


def _array(values: ArrayLike, name: str, *, ndim: int = 1) -> FloatArray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name}: expected numbers in a regular array.") from None
    if array.ndim != ndim:
        raise InvalidInput(f"{name}: expected {ndim} dimension(s), found shape {array.shape}.")
    return _read_only(array)


def _column(selected: int, n_trials: int) -> int:
    try:
        column = operator.index(selected)
    except TypeError:
        column = -1
    if not 0 <= column < n_trials:
        raise InvalidInput(f"selected: expected a column of {n_trials} trials, found {selected!r}.")
    return column


def _rows(audited: object) -> int | None:
    if audited is None:
        return None
    try:
        rows = -1 if isinstance(audited, bool) else operator.index(audited)  # type: ignore[arg-type]
    except TypeError:
        rows = -1
    if rows < 0:
        raise InvalidInput(f"audited: expected a number of rows or None, found {audited!r}.")
    return rows


def _names(leaked: object) -> tuple[str, ...]:
    # A single name would be taken for its letters.
    found = tuple(leaked) if isinstance(leaked, Sequence) and not isinstance(leaked, str) else None
    if found is None or not all(isinstance(name, str) and name for name in found):
        raise InvalidInput(f"leaked: expected names of features, found {leaked!r}.")
    return tuple(sorted(set(found)))


def _windows(windows: Sequence[ArrayLike], name: str) -> tuple[FloatArray, ...]:
    return tuple(_array(window, f"{name}[{i}]") for i, window in enumerate(windows))


def _yes_or_no(hits: ArrayLike) -> NDArray[Any]:
    """Keep NaN as it is: to a boolean array it would convert as a hit."""
    array = np.asarray(hits)
    if array.ndim != 1:
        raise InvalidInput(f"hits: expected one dimension, found shape {array.shape}.")
    if array.dtype == np.bool_:
        return _read_only(array)
    numbers = _array(array, "hits")
    if not (np.isin(numbers, (0.0, 1.0)) | np.isnan(numbers)).all():
        raise InvalidInput(
            "hits: expected True or False for each label, found other values. "
            "Compare the predicted side with the label's."
        )
    return _read_only(numbers if np.isnan(numbers).any() else numbers == 1.0)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
