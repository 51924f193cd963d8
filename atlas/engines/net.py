"""What a net is to the engine around it, and how its inputs are made ready in every net."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from atlas.engines.onnx_model import Graph, Weights
from atlas.errors import InvalidInput

__all__ = ["Drop", "Net", "check_sizes", "fixed_weights", "prepare", "prepare_nodes", "score_node"]

Drop = Callable[[Any], Any]
"""Sets entries of a tensor to 0 at random while a net learns."""

_FURTHEST = 8.0  # deviations from the mean


class Net(Protocol):
    """The form of a net: what it computes, twice, once to learn in torch and once to serve."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each weight, those of `fixed_weights` among them."""
        ...

    def initial(self, random: np.random.Generator) -> Weights:
        """Draw the weights that learning starts from."""
        ...

    def forward(self, weights: Mapping[str, Any], windows: Any, drop: Drop) -> Any:
        """Return the score of each window before the last function, shape (n,), in torch."""
        ...

    def graph(self, weights: Weights, *, probability: bool) -> Graph:
        """Return the same computation as ONNX, with the logistic function at its end or not."""
        ...


def check_sizes(**sizes: Any) -> None:
    """Raise `InvalidInput` unless each is a whole number from 1."""
    for name, size in sizes.items():
        if not (isinstance(size, int) and not isinstance(size, bool) and size >= 1):
            raise InvalidInput(f"Expected {name} to be a whole number from 1; found {size!r}.")


def fixed_weights(n_features: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what no descent changes: mean and reciprocal deviation of features."""
    return {"mean": (n_features,), "scale": (n_features,)}


def prepare(weights: Mapping[str, Any], windows: Any) -> Any:
    """Normalise windows in torch: (n, length, n_features) becomes (n, length, n_features + 1).

    A null counts as the feature's mean over the training rows; one more input tells which share of
    a row's features is null: 1 in front of a symbol's first row. Values are cut at 8 deviations.
    """
    import torch

    null = torch.isnan(windows)
    values = ((windows - weights["mean"]) * weights["scale"]).clamp(-_FURTHEST, _FURTHEST)
    values = torch.where(torch.isnan(values), 0.0, values)
    return torch.cat((values, null.to(values.dtype).mean(-1, keepdim=True)), dim=-1)


def prepare_nodes(graph: Graph, windows: str) -> str:
    """Add the same to a graph."""
    null = graph.node("IsNaN", windows)
    values = graph.node("Mul", graph.node("Sub", windows, "mean"), "scale")
    values = graph.node("Clip", values, graph.number(-_FURTHEST), graph.number(_FURTHEST))
    # Infinity times the scale 0 of a constant feature is no number either.
    values = graph.node("Where", graph.node("IsNaN", values), graph.number(0.0), values)
    share = graph.node("ReduceMean", graph.node("Cast", null, to=1), axes=(-1,), keepdims=1)
    return graph.node("Concat", values, share, axis=-1)


def score_node(graph: Graph, last: str, *, probability: bool) -> None:
    """Add the head: from (n, width) to one score each, under the name `score`."""
    score = graph.node("Add", graph.node("MatMul", last, "head"), "head_bias")
    if probability:
        score = graph.node("Sigmoid", score)
    graph.output(graph.node("Reshape", score, graph.integers(-1)), "score", ("windows",))
