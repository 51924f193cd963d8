"""Long short-term memory as an engine: it reads a window, or one row at a time with its memory."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from atlas.engines.dataset import Task
from atlas.engines.features import check_width
from atlas.engines.recurrent import RecurrentNet, state_size
from atlas.engines.sequence import SequenceEngine
from atlas.errors import InvalidInput

__all__ = ["LSTMEngine"]

_BATCH = 128
_SCORE, _STEP = ["score"], ["score", "next_state"]


class LSTMEngine(SequenceEngine):
    """Layers of memory cells that read the rows of a window in order.

    Parameters
    ----------
    sequence : int
        Rows of a window, at least two.
    units : tuple of int
        Cells of each layer.
    dropout : float
        Share of each layer's outputs that is set to 0 while it learns.
    learning_rate, batch_size, epochs : float, int, int
        Of the descent (Adam), which ends earlier when the later rows are not fitted better.
    patience : int
        Epochs without gain after which it ends; half of them halve the learning rate.
    validation_share : float
        Share of the rows, the latest, that tells when to stop.
    gradient_norm : float
        Longer gradients are cut.
    balanced : bool
        Weigh both labels alike while learning; probabilities stay those of the rows.
    max_windows : int or None
        Learn from so many rows at most, the latest.
    task : str
        `direction` for a classifier, `return` for a regressor.
    seed : int
        Of first weights, batches and dropout.
    n_threads : int
        Threads for scoring. Learning takes one, since more would change the last bits.
    device : str
        Where it learns: `cpu`, `cuda`, or `auto` for the second where there is one.
    """

    name: ClassVar[str] = "lstm"

    def __init__(
        self,
        *,
        sequence: int = 60,
        units: tuple[int, ...] = (128, 64, 32),
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
        batch_size: int = 32,
        epochs: int = 100,
        patience: int = 10,
        validation_share: float = 0.15,
        gradient_norm: float = 1.0,
        balanced: bool = True,
        max_windows: int | None = None,
        task: Task = "direction",
        seed: int = 0,
        n_threads: int = 1,
        device: str = "auto",
    ) -> None:
        self.sequence = sequence
        self.units = units
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.validation_share = validation_share
        self.gradient_norm = gradient_norm
        self.balanced = balanced
        self.max_windows = max_windows
        self.task = task
        self.seed = seed
        self.n_threads = n_threads
        self.device = device

    def step(
        self, rows: NDArray[np.float32], state: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score the next row of each of several streams.

        After the rows of a window, one by one from no state, the score is that of the window to
        the last bit. A state that is carried further remembers more than a window holds, which
        the engine was not trained on.

        Parameters
        ----------
        rows : (n_streams, n_features)
        state : (n_streams, 2 x all units), optional
            What the former step returned; a plain array that may be stored. None at the start.

        Returns
        -------
        scores : (n_streams,)
        state : (n_streams, 2 x all units)
        """
        self._require_learned()
        if rows.ndim != 2 or rows.shape[1] != len(self._features):
            check_width(self._features, rows.shape)
        expected = (len(rows), self._state_size)
        if state is None:
            state = np.zeros(expected, np.float32)
        if state.shape != expected or state.dtype != np.float32:
            raise InvalidInput(
                f"Expected a state of shape {expected} of 32-bit floats; found {state.shape} of "
                f"{state.dtype}."
            )
        if len(rows) <= _BATCH:
            return self._step(rows, state)
        scores, after = np.empty(len(rows), np.float32), np.empty_like(state)
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            scores[part], after[part] = self._step(rows[part], state[part])
        return scores, after

    def _step(
        self, rows: NDArray[np.float32], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen = np.ascontiguousarray(rows[:, None], dtype=np.float32)
        given = {"rows": seen, "state": np.ascontiguousarray(state)}
        scores, after = self._session.run(_STEP, given)
        return scores, after

    def _run(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        state = np.zeros((len(windows), self._state_size), np.float32)
        given = {"rows": windows, "state": state}
        scores: NDArray[np.float32] = self._session.run(_SCORE, given)[0]
        return scores

    @property
    def _state_size(self) -> int:
        return state_size(self.units)

    def _net(self, n_features: int) -> RecurrentNet:
        return RecurrentNet(n_features, self.units)
