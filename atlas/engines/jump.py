"""The statistical jump model: regimes that persist, because each change of state costs a penalty.

The centroids μ and the states s minimise, over all rows x of the training,

    Σ ½‖x_t − μ_{s_t}‖² + penalty · #{t : s_t ≠ s_{t−1}}

Sources: Bemporad, Breschi, Piga, Boyd (2018), "Fitting Jump Models"; Nystrup, Lindström, Madsen
(2020), "Learning Hidden Markov Models with Persistent States by Penalizing Jumps"; the online path
is that of Nystrup, Kolm, Lindström (2020), "Greedy Online Classification of Persistent Market
States Using Realized Intraday Volatility Features".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.engines.jump_filter import UNKNOWN, JumpFilter
from atlas.engines.jump_learned import Learned, read_learned, write_learned
from atlas.engines.jump_names import by_former, by_frequency
from atlas.engines.jump_search import search
from atlas.errors import ArtifactCorrupt, AtlasError, FeatureMismatch, InvalidInput, NotEnoughData

__all__ = ["JumpModel"]

Floats = NDArray[np.float64]
States = NDArray[np.int32]

# The path keeps the state that each jump came from in one byte.
_MOST_STATES = 255
_MOST = 2**63 - 1
# The squares of larger values have no room in a float.
_LARGEST = 1e150


class JumpModel:
    """Regimes of a feature stream: each has a centroid, and a change of regime costs a penalty.

    Features are taken as they are: bring them to one scale, by the training rows alone, before.
    NaN is null and says nothing: it adds no loss to any state and enters no mean. A row of nulls
    alone keeps the state before it; ahead of all other rows `predict` gives it the state after it,
    and a cold `filter` −1, unknown. A state that no row of training is in has a centroid of NaN and
    is never named.

    A state's number is its name. After the first `fit` the most frequent one is 0; later fits of
    the same (or a loaded) model hand the names on to the nearest centroids.

    Parameters
    ----------
    n_states : int
        1 to 255.
    penalty : float
        Cost of a change of state, in units of half squared distance; it must grow with the number
        of features and of rows a day.
    n_starts : int
        Starts of each of the three kinds of the search, see `atlas.engines.jump_search`.
    max_iter : int
        Most rounds of one descent; it ends sooner when the path no longer changes.
    seed : int
        Of the starts. Equal rows and hyperparameters give equal states.
    """

    def __init__(
        self,
        n_states: int,
        penalty: float,
        *,
        n_starts: int = 50,
        max_iter: int = 1_000,
        seed: int = 0,
    ) -> None:
        for name, number, least, most in (
            ("n_states", n_states, 1, _MOST_STATES),
            ("n_starts", n_starts, 1, _MOST),
            ("max_iter", max_iter, 1, _MOST),
            ("seed", seed, 0, _MOST),
        ):
            if not isinstance(number, (int, np.integer)) or not least <= number <= most:
                raise InvalidInput(
                    f"Expected {name} as a whole number from {least} to {most}; found {number!r}."
                )
        if not 0 <= penalty < math.inf:
            raise InvalidInput(f"Expected a finite penalty, not negative; found {penalty!r}.")
        self.n_states = n_states
        self.penalty = penalty
        self.n_starts = n_starts
        self.max_iter = max_iter
        self.seed = seed
        self._learned: Learned | None = None

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The arguments that would build this model again."""
        return MappingProxyType({k: v for k, v in vars(self).items() if not k.startswith("_")})

    @property
    def centroids_(self) -> Floats:
        """Centroids, shape (n_states, n_features), by name; NaN for a state without rows."""
        return self._fitted().centroids.copy()

    @property
    def anchors_(self) -> Floats:
        """The latest centroid that each name had, by which names are kept; NaN where none was."""
        return self._fitted().anchors.copy()

    @property
    def occupancy_(self) -> NDArray[np.int64]:
        """Rows of training in each state, shape (n_states,)."""
        return self._fitted().occupancy.copy()

    @property
    def objective_(self) -> float:
        """Cost of the training path: half squared distances and penalties."""
        return self._fitted().objective

    def fit(
        self,
        X: ArrayLike,
        *,
        former: JumpModel | ArrayLike | None = None,
        fresh: ArrayLike | None = None,
    ) -> Self:
        """Learn centroids from rows in order of time, shape (n_rows, n_features).

        What is learned depends on the rows and the hyperparameters alone, the names also on what
        this model learned before. Names follow the least squared distance between centroids, so
        both fits must have seen features in one scale.

        Parameters
        ----------
        former : JumpModel or (n_states, n_features), optional
            Whose names are kept, instead of this model's own former ones; or the `anchors_` of
            such a model, brought to the scale of these rows.
        fresh : (n_rows,) of bool, optional
            Rows that follow no other, such as the first of another market: there a change of
            state costs nothing. The training end is that of the last row.

        Raises
        ------
        InvalidInput
            If a value is infinite or beyond 1e150.
        NotEnoughData
            If fewer rows than states hold a value, or a feature holds none.
        FeatureMismatch
            If the former model has other states or another number of features.
        """
        rows = _table(X)
        self._check_training(rows)
        anchored = self._names_before(former, rows.shape[1])
        begins = _beginnings(rows, fresh)
        best = search(
            rows,
            begins,
            n_states=self.n_states,
            penalty=float(self.penalty),
            n_starts=self.n_starts,
            max_iter=self.max_iter,
            seed=self.seed,
        )
        if not math.isfinite(best.objective):
            raise InvalidInput("Expected rows near enough to square and add; bring them to scale.")
        occupancy = np.bincount(best.states, minlength=self.n_states)
        centroids = np.where((occupancy > 0)[:, None], best.centroids, np.nan)
        if anchored is None:
            order = by_frequency(occupancy, centroids)
        else:
            order = by_former(centroids, anchored)
        centroids = np.ascontiguousarray(centroids[order])
        anchors = centroids
        if anchored is not None:
            anchors = np.where(np.isnan(centroids), anchored, centroids)
        values = np.zeros(self.n_states)
        last = int(np.flatnonzero(begins)[-1])
        state = int(self._follow(rows[last:], centroids, values, UNKNOWN)[-1])
        self._learned = Learned(centroids, anchors, occupancy[order], best.objective, values, state)
        return self

    def predict(self, X: ArrayLike) -> States:
        """Return the cheapest path through all rows, shape (n_rows,): the offline reading.

        Later rows decide on earlier states, so this explains history and must never feed a
        feature or a backtest. Ties go to the lowest state; −1 throughout if all rows are null.

        Raises
        ------
        FeatureMismatch
            If the rows have another number of features.
        InvalidInput
            If a value is infinite, or so large that its square is.
        """
        from atlas.engines.jump_paths import trace

        learned = self._fitted()
        rows = _table(X, learned)
        states = np.empty(len(rows), np.int32)
        fresh = np.zeros(len(rows), np.bool_)
        if not math.isfinite(trace(rows, fresh, learned.centroids, float(self.penalty), states)):
            raise _too_far("one of the rows")
        if not np.isfinite(rows).any():
            states[:] = UNKNOWN
        return states

    def filter(self, X: ArrayLike, *, warm: bool = True) -> States:
        """Return the state known at each row, shape (n_rows,): rows up to it decide, none later.

        The state after row t is the one in which the cheapest path through rows up to t ends.

        Parameters
        ----------
        warm : bool
            Whether the first row follows the last one of the training; otherwise nothing came
            before it, and a first state costs no penalty.

        Raises
        ------
        FeatureMismatch, InvalidInput
            As `predict`.
        """
        learned = self._fitted()
        rows = _table(X, learned)
        values = learned.values.copy() if warm else np.zeros(self.n_states)
        return self._follow(rows, learned.centroids, values, learned.state if warm else UNKNOWN)

    def stream(self, *, warm: bool = True) -> JumpFilter:
        """Return what `filter` remembers before its first row, to be moved by one row at a time."""
        learned = self._fitted()
        values = learned.values if warm else np.zeros(self.n_states)
        state = learned.state if warm else UNKNOWN
        return JumpFilter(learned.centroids, float(self.penalty), values, state)

    def resume(self, snapshot: bytes) -> JumpFilter:
        """Return a stream that goes on where `JumpFilter.snapshot` was taken.

        Raises
        ------
        ArtifactCorrupt
            If the bytes are not a snapshot.
        InvalidInput
            If it was taken with other centroids or another penalty, such as before a refit.
        """
        return self.stream(warm=False).restore(snapshot)

    def dump(self) -> bytes:
        """Return hyperparameters and what was learned as JSON."""
        whole = ("n_states", "n_starts", "max_iter", "seed")
        recipe = {name: int(getattr(self, name)) for name in whole}
        return write_learned(self._fitted(), {**recipe, "penalty": float(self.penalty)})

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Rebuild a model from `dump`; no code of theirs is run.

        Raises
        ------
        ArtifactCorrupt
            If the bytes are not such a model.
        """
        recipe, learned = read_learned(data)
        try:
            model = cls(**recipe)
        except (TypeError, ValueError) as error:
            raise ArtifactCorrupt(
                f"Expected a model that JumpModel.dump wrote; found {error}. Fetch the blob again, "
                "or roll back to an earlier version."
            ) from error
        if len(learned.centroids) != model.n_states:
            raise ArtifactCorrupt(
                f"Expected {model.n_states} states; found {len(learned.centroids)}. Fetch the blob "
                "again, or roll back to an earlier version."
            )
        model._learned = learned
        return model

    def _fitted(self) -> Learned:
        if self._learned is None:
            raise AtlasError("Expected a trained model; this one has learned nothing. Call fit.")
        return self._learned

    def _names_before(self, former: JumpModel | ArrayLike | None, width: int) -> Floats | None:
        if former is None:
            anchors = None if self._learned is None else self._learned.anchors
        elif isinstance(former, JumpModel):
            anchors = former._fitted().anchors
        else:
            anchors = np.asarray(former, np.float64)
        if anchors is not None and anchors.shape != (self.n_states, width):
            raise FeatureMismatch(
                f"Expected {' states of '.join(map(str, anchors.shape))} features, as before; "
                f"found {self.n_states} of {width}. Names cannot be kept: fit a new model."
            )
        return anchors

    def _check_training(self, rows: Floats) -> None:
        told = ~np.isnan(rows)
        n_told = int(told.any(axis=1).sum())
        if n_told < self.n_states:
            raise NotEnoughData(
                f"Expected at least {self.n_states} rows with a value, one a state; found {n_told}."
            )
        silent = np.flatnonzero(~told.any(axis=0)).tolist()
        if silent:
            raise NotEnoughData(f"Expected values in every feature; columns {silent} are all null.")
        beyond = np.argwhere(np.abs(rows) > _LARGEST)
        if len(beyond):
            row, column = beyond[0].tolist()
            raise InvalidInput(
                f"Expected values within ±{_LARGEST:g} or NaN for null; found {rows[row, column]} "
                f"in row {row}, column {column}."
            )

    def _follow(self, rows: Floats, centroids: Floats, values: Floats, state: int) -> States:
        from atlas.engines.jump_paths import follow

        states = np.empty(len(rows), np.int32)
        done = follow(rows, centroids, float(self.penalty), values, state, states)
        if done < len(rows):
            raise _too_far(f"{rows[done].tolist()} in row {done}")
        return states


def _table(X: ArrayLike, learned: Learned | None = None) -> Floats:
    rows = np.ascontiguousarray(X, np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InvalidInput(f"Expected rows of shape (n_rows, n_features); found {rows.shape}.")
    if learned is not None and rows.shape[1] != learned.centroids.shape[1]:
        raise FeatureMismatch(
            f"The model was trained on {learned.centroids.shape[1]} features; expected rows of "
            f"shape (n_rows, {learned.centroids.shape[1]}), found {rows.shape}."
        )
    # One kind of array means one compiled kernel, whoever owns the rows.
    rows = rows.view()
    rows.flags.writeable = False
    return rows


def _beginnings(rows: Floats, fresh: ArrayLike | None) -> NDArray[np.bool_]:
    """Return the first row with a value of each stretch."""
    given = np.zeros(len(rows), np.bool_) if fresh is None else np.asarray(fresh)
    if given.shape != (len(rows),) or given.dtype != np.bool_:
        raise InvalidInput(
            f"Expected fresh of shape ({len(rows)},) of booleans; found {given.shape} of "
            f"{given.dtype}."
        )
    told = np.flatnonzero(~np.isnan(rows).all(axis=1))
    stretch = given.cumsum()[told]
    begins = np.zeros(len(rows), np.bool_)
    begins[told] = np.diff(stretch, prepend=-1) > 0
    return begins


def _too_far(found: str) -> InvalidInput:
    return InvalidInput(
        f"Expected finite values or NaN for null, near enough to square; found {found}."
    )
