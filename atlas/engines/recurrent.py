"""A net that reads rows one after another: layers of long short-term memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atlas.engines.net import (
    Drop,
    check_sizes,
    fixed_weights,
    prepare,
    prepare_nodes,
    score_node,
)
from atlas.engines.onnx_model import Graph, Weights

__all__ = ["RecurrentNet", "state_size"]

# Weights are kept in ONNX's order of gates: input, output, forget, cell. Torch wants input,
# forget, cell, output.
_TORCH_ORDER = (0, 2, 3, 1)
_FORGET = 2


def state_size(units: Sequence[int]) -> int:
    """Return how many numbers one step hands to the next: output and memory of every cell."""
    return 2 * sum(units)


@dataclass(frozen=True)
class RecurrentNet:
    """Layers of memory cells, each fed with what the former one remembers.

    Parameters
    ----------
    units : tuple of int
        Cells of each layer.

    References
    ----------
    Hochreiter, Schmidhuber (1997), "Long Short-Term Memory"; Gers, Schmidhuber, Cummins (2000),
    "Learning to Forget".
    """

    n_features: int
    units: tuple[int, ...]

    def __post_init__(self) -> None:
        check_sizes(n_features=self.n_features, layers=len(self.units))
        for size in self.units:
            check_sizes(units=size)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight."""
        shapes = fixed_weights(self.n_features)
        width = self.n_features + 1
        for layer, size in enumerate(self.units):
            shapes[f"input_{layer}"] = (1, 4 * size, width)
            shapes[f"recurrence_{layer}"] = (1, 4 * size, size)
            shapes[f"bias_{layer}"] = (1, 8 * size)
            width = size
        return {**shapes, "head": (width, 1), "head_bias": (1,)}

    def initial(self, random: np.random.Generator) -> Weights:
        """Draw weights evenly, narrower for wider layers; every cell begins by remembering."""
        weights = {}
        for name, shape in self.shapes().items():
            layer = name.rpartition("_")[2]
            width = self.units[int(layer)] if layer.isdigit() else shape[0]
            bound = 1.0 / np.sqrt(width)
            weights[name] = random.uniform(-bound, bound, shape).astype(np.float32)
            if name.startswith("bias_"):
                weights[name][:] = 0.0
                weights[name][0, _FORGET * width : (_FORGET + 1) * width] = 1.0
        weights["head_bias"][:] = 0.0
        return weights

    def forward(self, weights: Mapping[str, Any], windows: Any, drop: Drop) -> Any:
        """Return the score of each window before the last function, in torch."""
        import torch

        values = prepare(weights, windows)
        for layer, size in enumerate(self.units):
            biases = _torch_gates(weights[f"bias_{layer}"].reshape(2, 4 * size), dim=1)
            parameters = (
                _torch_gates(weights[f"input_{layer}"][0], dim=0),
                _torch_gates(weights[f"recurrence_{layer}"][0], dim=0),
                biases[0],
                biases[1],
            )
            start = values.new_zeros((1, len(values), size))
            values = torch.lstm(
                values, (start, start), parameters, True, 1, 0.0, False, False, True
            )[0]
            if layer == len(self.units) - 1:
                values = values[:, -1]
            values = drop(values)
        return (values @ weights["head"] + weights["head_bias"])[:, 0]

    def graph(self, weights: Weights, *, probability: bool) -> Graph:
        """Return the computation as ONNX: it starts from `state` and yields `next_state`.

        The state of a window is that of its rows; zeros stand for nothing seen.
        """
        graph = Graph(weights)
        windows = graph.input("rows", ("windows", "length", self.n_features))
        state = graph.input("state", ("windows", state_size(self.units)))
        values = graph.node("Transpose", prepare_nodes(graph, windows), perm=(1, 0, 2))
        sizes = [size for size in self.units for _ in range(2)]
        parts = graph.nodes("Split", state, graph.integers(*sizes), yields=len(sizes), axis=1)
        direction, step = graph.integers(1), graph.integers(0)
        after: list[str] = []
        for layer, size in enumerate(self.units):
            start = (graph.node("Unsqueeze", part, step) for part in parts[2 * layer :][:2])
            names = (f"{what}_{layer}" for what in ("input", "recurrence", "bias"))
            every, *last = graph.nodes(
                "LSTM", values, *names, "", *start, yields=3, hidden_size=size
            )
            values = graph.node("Squeeze", every, direction)
            after += [graph.node("Squeeze", value, step) for value in last]
        score_node(graph, after[-2], probability=probability)
        shape = ("windows", state_size(self.units))
        graph.output(graph.node("Concat", *after, axis=1), "next_state", shape)
        return graph


def _torch_gates(weight: Any, *, dim: int) -> Any:
    import torch

    gates = weight.chunk(4, dim=dim)
    return torch.cat([gates[gate] for gate in _TORCH_ORDER], dim=dim)
