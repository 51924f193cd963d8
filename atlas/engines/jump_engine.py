"""The statistical jump model as an engine: the regime that a window ends in tells the odds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from atlas.engines.dataset import Dataset, FloatArray, Task, check_task
from atlas.engines.features import check_features, check_width
from atlas.engines.jump import JumpModel
from atlas.engines.jump_filter import UNKNOWN
from atlas.engines.jump_lessons import find_stretches
from atlas.engines.jump_reading import (
    JumpReading,
    as_given,
    positions,
    read_reading,
    standardised,
    write_reading,
)
from atlas.engines.jump_regimes import Regime, describe_regimes
from atlas.engines.scaling import normalisation
from atlas.errors import ArtifactCorrupt, AtlasError, FeatureMismatch, InvalidInput, NotEnoughData

__all__ = ["JumpEngine"]


class JumpEngine:
    """Regimes of a market, each with the odds and the side that its labels had in training.

    A score is that of the regime in which a cold online filter over the window ends, so it never
    looks ahead and never depends on where a stream began. The regimes are fitted on the rows of
    all symbols, put one after another; a change of regime between two symbols, or across rows that
    are not trained on, costs nothing (`atlas.engines.jump_lessons` says which rows those are).
    Which regime a training row is in is asked of the online filter too: the offline path, which
    knows what came after a row, would flatter its returns.

    Features are brought to mean 0 and deviation 1 of the rows that regimes are fitted on, and cut
    at 8 deviations. NaN is null and says nothing; a feature that is constant or null in training is
    left out. A window of nulls alone is in no regime.

    A regime's position is the sign of its labels' mean return where that exceeds what entering it
    costs, and none otherwise. Its probability of up lies on the side of the position: above a half
    where it is long, below where it is short, a half where there is none, or no regime. A
    regressor tells the regime's mean gross return; in no regime, 0.

    Parameters
    ----------
    n_states, penalty, n_starts, max_iter
        Of `JumpModel`: number of regimes, cost of a change, and how long the best is sought.
    sequence : int
        Rows of a window, at least two: how far a score looks back.
    columns : tuple of str, optional
        Features that tell regimes apart; all unless given. Few that persist serve best.
    cost_bps : float
        Cost of one side of a trade in basis points of its notional: fee, half spread, slippage.
    task : str
        `direction` for a classifier, `return` for a regressor.
    seed : int
        Of the search for regimes.
    n_threads : int
        As for every engine; it takes one, whatever is given.

    References
    ----------
    Those of `atlas.engines.jump`.
    """

    name: ClassVar[str] = "jump"

    def __init__(
        self,
        *,
        n_states: int = 2,
        penalty: float = 50.0,
        sequence: int = 250,
        columns: tuple[str, ...] | None = None,
        cost_bps: float = 7.0,
        n_starts: int = 10,
        max_iter: int = 1_000,
        task: Task = "direction",
        seed: int = 0,
        n_threads: int = 1,
    ) -> None:
        self.n_states = n_states
        self.penalty = penalty
        self.sequence = sequence
        self.columns = columns
        self.cost_bps = cost_bps
        self.n_starts = n_starts
        self.max_iter = max_iter
        self.task = task
        self.seed = seed
        self.n_threads = n_threads
        self._reading: JumpReading | None = None
        self._told = np.empty(0, np.float32)
        self._advance: Any = None

    @property
    def window(self) -> int:
        """Rows that a score looks at."""
        return self.sequence

    @property
    def features_(self) -> tuple[str, ...]:
        """The features that it was trained on, in order."""
        return () if self._reading is None else self._reading.features

    @property
    def model_(self) -> JumpModel:
        """The regimes, over the used features in deviations from their means in training."""
        return self._learned().model

    @property
    def regimes_(self) -> tuple[Regime, ...]:
        """What the labels of each regime were like in training, by its number."""
        return self._learned().regimes

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The keyword arguments that would build this engine again."""
        names = type(self).__init__.__annotations__
        return {name: getattr(self, name) for name in names if name != "return"}

    def fit(self, dataset: Dataset, *, former: JumpEngine | None = None) -> Self:
        """Learn from a dataset; equal data and hyperparameters give equal bytes.

        Parameters
        ----------
        former : JumpEngine, optional
            A trained one, whose regimes hand on their names (numbers) to the nearest of the new
            ones. Otherwise the most frequent is 0.

        Raises
        ------
        NotEnoughData
            If the rows that carry weight have one label only, or none that tells regimes apart.
        InvalidInput
            If a hyperparameter is none, a column is no feature, or returns are missing.
        FeatureMismatch
            If the former engine has other features, columns or another number of regimes.
        """
        check_task(self.task)
        self._check()
        if self.task == "direction":
            dataset.require_both_labels()
        returns = dataset.require_returns()
        if former is not None and (former.features_, former.columns) != (
            dataset.features,
            self.columns,
        ):
            raise FeatureMismatch(
                f"Expected the former engine's features {former.features_} and columns "
                f"{former.columns}; found {dataset.features} and {self.columns}. Names cannot be "
                "kept: fit without it."
            )
        stretches = find_stretches(dataset)
        rows = dataset.history.sorted_rows[stretches.places]
        columns = positions(self.columns or dataset.features, dataset.features)
        mean, scale = normalisation(rows[:, columns])
        varies = scale > 0
        if not varies.any():
            raise NotEnoughData(
                f"Expected a feature that varies over {len(rows)} rows, to tell regimes apart; "
                "found none."
            )
        columns, mean, scale = columns[varies], mean[varies], scale[varies]
        used = tuple(dataset.features[column] for column in columns)
        model = JumpModel(
            self.n_states,
            self.penalty,
            n_starts=self.n_starts,
            max_iter=self.max_iter,
            seed=self.seed,
        )
        model.fit(
            standardised(rows, columns, mean, scale),
            former=None if former is None else former._learned().anchors_in(used, mean, scale),
            fresh=stretches.fresh,
        )
        reading = JumpReading(dataset.features, used, mean, scale, model, ())
        begins = np.maximum(stretches.begins, stretches.taught - self.sequence + 1)
        regimes = describe_regimes(
            reading.end_states(rows, begins, stretches.taught),
            stretches.begins,
            n_states=self.n_states,
            up=dataset.y[stretches.labels] > 0,
            returns=returns[stretches.labels],
            weights=dataset.weights[stretches.labels],
        )
        self._open(replace(reading, regimes=regimes))
        return self

    def predict(self, X: FloatArray) -> NDArray[np.float64]:
        """Return the probabilities of down and up, or of a regressor the expected return.

        Returns
        -------
        (n_windows, 2) or (n_windows, 1)
            Rows of probabilities sum to 1.

        Raises
        ------
        FeatureMismatch
            If X is not of shape (n_windows, window, n_features).
        """
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(X, dtype=np.float32)
        scores = self.score(rows).astype(np.float64)
        if self.task == "return":
            return scores[:, None]
        return np.column_stack((1.0 - scores, scores))

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of up, or the expected return, of each window.

        Parameters
        ----------
        rows : (n_windows, window, n_features)

        Raises
        ------
        FeatureMismatch
            If the rows have another shape.
        """
        from atlas.engines.jump_windows import window_states

        reading = self._learned()
        check_width(reading.features, rows.shape, window=self.sequence)
        states = np.empty(len(rows), np.int32)
        window_states(as_given(rows), *reading.given, states)
        return self._told[states]  # the last entry, −1, is that of no regime

    def step(
        self, rows: NDArray[np.float32], state: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Score the next row of each of several streams.

        After the rows of a window, one by one from no state, the score is that of the window to
        the last bit. A state that is carried further remembers more than a window holds.

        Parameters
        ----------
        rows : (n_streams, n_features)
        state : (n_streams, n_states + 1), optional
            What the former step returned; a plain array that may be stored. None at the start.

        Returns
        -------
        scores : (n_streams,)
        state : (n_streams, n_states + 1)
            What the cheapest path into each regime costs beyond the cheapest of all, and last the
            regime itself; −1 where no row has said anything yet.
        """
        reading = self._learned()
        if rows.ndim != 2 or rows.shape[1] != len(reading.features):
            check_width(reading.features, rows.shape)
        shape = (len(rows), self.n_states + 1)
        if state is None:
            after = np.zeros(shape)
            after[:, -1] = UNKNOWN
        elif state.shape == shape and state.dtype == np.float64:
            after = np.array(state, order="C")
        else:
            raise InvalidInput(
                f"Expected a state of shape {shape} of 64-bit floats; found {state.shape} of "
                f"{state.dtype}."
            )
        scores = np.empty(len(rows), np.float32)
        done = self._advance(as_given(rows), *reading.given, self._told, after, scores)
        if done < len(rows):
            raise InvalidInput(
                f"Expected what a former step returned; found {after[done].tolist()} for stream "
                f"{done}. Start from no state and replay the rows of a window."
            )
        return scores, after

    def regimes(self, dataset: Dataset) -> NDArray[np.int32]:
        """Return the regime of each row of a dataset, shape (n_rows,), as its score sees it.

        It is the online reading over the row's window: rows up to it decide, none later. −1 where
        the window holds nulls alone.

        Raises
        ------
        FeatureMismatch
            If the dataset has other features than those of the training.
        """
        reading = self._learned()
        check_features(reading.features, dataset.features)
        place, first = dataset.history.places
        at, symbol = place[dataset.at], first[dataset.at]
        begins = np.maximum(symbol, at - self.sequence + 1)
        return reading.end_states(dataset.history.sorted_rows, begins, at)

    def dump(self) -> bytes:
        """Return hyperparameters and what was learned as JSON."""
        recipe = dict(self.hyperparameters)
        del recipe["n_threads"]  # the machine's affair, not the model's
        return write_reading(self._learned(), recipe)

    @classmethod
    def load(cls, data: bytes, *, n_threads: int = 1) -> Self:
        """Rebuild an engine from `dump`; no code of theirs is run.

        Raises
        ------
        ArtifactCorrupt
            If the bytes are not such a model.
        """
        recipe, reading = read_reading(data)
        try:
            engine = cls(**recipe, n_threads=n_threads)
            check_task(engine.task)
            engine._check()
        except (TypeError, ValueError) as error:
            raise ArtifactCorrupt(
                f"Expected a model that JumpEngine.dump wrote; found {str(error)[:200]}. "
                "Fetch the blob again, or roll back to an earlier version."
            ) from error
        engine._open(reading)
        return engine

    def _open(self, reading: JumpReading) -> None:
        """Take over what was learned, and have the compiled loops ready before the first score."""
        # Not with this module: it brings numba, which serving other engines does without.
        from atlas.engines.jump_windows import advance

        if self.task == "direction":
            told = [regime.probability(self.cost_bps) for regime in reading.regimes]
            nothing = 0.5
        else:
            told, nothing = [regime.mean_return for regime in reading.regimes], 0.0
        self._reading, self._advance = reading, advance
        self._told = np.array([*told, nothing], np.float32)
        nulls = np.full((1, self.sequence, len(reading.features)), np.nan, np.float32)
        self.step(nulls[:, 0])
        self.score(nulls)

    def _check(self) -> None:
        whole = isinstance(self.sequence, int) and not isinstance(self.sequence, bool)
        if not whole or self.sequence < 2:
            raise InvalidInput(
                f"Expected sequence as a whole number from 2; found {self.sequence!r}."
            )
        if not 0 <= self.cost_bps < math.inf:
            raise InvalidInput(
                f"Expected cost_bps as basis points from 0; found {self.cost_bps!r}."
            )
        if self.columns is not None and not self.columns:
            raise InvalidInput("Expected columns that tell regimes apart, or None for all.")

    def _learned(self) -> JumpReading:
        if self._reading is None:
            raise AtlasError("Expected a trained engine; this one has learned nothing. Call fit.")
        return self._reading
