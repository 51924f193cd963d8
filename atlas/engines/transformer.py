"""A Transformer as an engine: attention among the rows of a window."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from atlas.engines.attention import AttentionNet
from atlas.engines.dataset import Task
from atlas.engines.features import check_width
from atlas.engines.sequence import SequenceEngine
from atlas.errors import InvalidInput

__all__ = ["TransformerEngine"]


class TransformerEngine(SequenceEngine):
    """Attention layers over the rows of a window.

    Parameters
    ----------
    sequence : int
        Rows of a window, at least two.
    embed : int
        Width of a row inside the net, a multiple of `heads`.
    heads : int
        Comparisons side by side in each layer.
    feed_forward : int
        Width of the part behind each comparison.
    layers : int
        Number of layers.
    dropout : float
        Share of the outputs of each part that is set to 0 while it learns.
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

    name: ClassVar[str] = "transformer"

    def __init__(
        self,
        *,
        sequence: int = 100,
        embed: int = 128,
        heads: int = 8,
        feed_forward: int = 256,
        layers: int = 4,
        dropout: float = 0.1,
        learning_rate: float = 1e-4,
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
        self.embed = embed
        self.heads = heads
        self.feed_forward = feed_forward
        self.layers = layers
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
        """Score the next row of each of several streams: that of the window it ends.

        Parameters
        ----------
        rows : (n_streams, n_features)
        state : (n_streams, sequence - 1, n_features), optional
            What the former step returned: the rows before. None at the start.

        Returns
        -------
        scores : (n_streams,)
        state : (n_streams, sequence - 1, n_features)
        """
        self._require_learned()
        check_width(self._features, rows.shape)
        before = (len(rows), self.sequence - 1, rows.shape[1])
        if state is None:
            state = np.full(before, np.nan, np.float32)
        if state.shape != before:
            raise InvalidInput(f"Expected a state of shape {before}; found {state.shape}.")
        windows = np.concatenate((state, rows[:, None]), axis=1, dtype=np.float32)
        return self.score(windows), windows[:, 1:]

    def _net(self, n_features: int) -> AttentionNet:
        return AttentionNet(
            n_features=n_features,
            length=self.sequence,
            embed=self.embed,
            heads=self.heads,
            feed_forward=self.feed_forward,
            layers=self.layers,
        )
