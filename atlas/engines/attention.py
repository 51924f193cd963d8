"""A net that compares every row of a window with every other: an encoder of attention layers."""

from __future__ import annotations

from collections.abc import Mapping
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
from atlas.errors import InvalidInput

__all__ = ["AttentionNet"]

_EPSILON = 1e-5  # of layer normalisation


@dataclass(frozen=True)
class AttentionNet:
    """Layers of attention and feed-forward parts over the rows of a window; the last row speaks.

    Each part normalises its input and adds to it (pre-norm). Positions are learned. The last layer
    is computed for the last row alone: the others would be thrown away.

    Parameters
    ----------
    length : int
        Rows of a window.
    embed : int
        Width of a row inside the net, a multiple of `heads`.
    heads : int
        Comparisons side by side in each layer.
    feed_forward : int
        Width inside a feed-forward part.
    layers : int
        Number of layers.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need"; Xiong et al. (2020), "On Layer
    Normalization in the Transformer Architecture".
    """

    n_features: int
    length: int
    embed: int
    heads: int
    feed_forward: int
    layers: int

    def __post_init__(self) -> None:
        check_sizes(**vars(self))
        if self.embed % self.heads:
            raise InvalidInput(
                f"Expected embed to be a multiple of heads; found {self.embed} and {self.heads}."
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight."""
        embed, inner = self.embed, self.feed_forward
        shapes = fixed_weights(self.n_features)
        shapes["embedding"] = (self.n_features + 1, embed)
        shapes["positions"] = (self.length, embed)
        for layer in range(self.layers):
            for part in ("query", "key", "value", "mix"):
                shapes[f"{part}_{layer}"] = (embed, embed)
                shapes[f"{part}_bias_{layer}"] = (embed,)
            shapes[f"widen_{layer}"], shapes[f"widen_bias_{layer}"] = (embed, inner), (inner,)
            shapes[f"narrow_{layer}"], shapes[f"narrow_bias_{layer}"] = (inner, embed), (embed,)
            for norm in ("attention", "forward"):
                shapes[f"{norm}_gain_{layer}"] = shapes[f"{norm}_shift_{layer}"] = (embed,)
        shapes["last_gain"] = shapes["last_shift"] = (embed,)
        return {**shapes, "head": (embed, 1), "head_bias": (1,)}

    def initial(self, random: np.random.Generator) -> Weights:
        """Draw matrices evenly after Glorot and Bengio (2010); positions begin close to 0."""
        weights = {}
        for name, shape in self.shapes().items():
            if "gain" in name:
                weights[name] = np.ones(shape, np.float32)
            elif len(shape) == 1:
                weights[name] = np.zeros(shape, np.float32)
            else:
                bound = 0.02 if name == "positions" else np.sqrt(6.0 / sum(shape))
                weights[name] = random.uniform(-bound, bound, shape).astype(np.float32)
        return weights

    def forward(self, weights: Mapping[str, Any], windows: Any, drop: Drop) -> Any:
        """Return the score of each window before the last function, in torch."""
        from torch.nn.functional import layer_norm, relu, scaled_dot_product_attention

        def linear(name: str, layer: int, values: Any) -> Any:
            return values @ weights[f"{name}_{layer}"] + weights[f"{name}_bias_{layer}"]

        def heads(name: str, layer: int, values: Any) -> Any:
            split = linear(name, layer, values).unflatten(-1, (self.heads, -1))
            return split.transpose(1, 2)

        def norm(name: str, layer: int, values: Any) -> Any:
            gain, shift = weights[f"{name}_gain_{layer}"], weights[f"{name}_shift_{layer}"]
            return layer_norm(values, (self.embed,), gain, shift, _EPSILON)

        values = prepare(weights, windows) @ weights["embedding"] + weights["positions"]
        values = drop(values)
        for layer in range(self.layers):
            seen = norm("attention", layer, values)
            asking = seen
            if layer == self.layers - 1:
                asking, values = seen[:, -1:], values[:, -1:]
            found = scaled_dot_product_attention(
                heads("query", layer, asking),
                heads("key", layer, seen),
                heads("value", layer, seen),
            )
            mixed = linear("mix", layer, found.transpose(1, 2).flatten(-2))
            values = values + drop(mixed)
            inner = relu(linear("widen", layer, norm("forward", layer, values)))
            values = values + drop(linear("narrow", layer, inner))
        last = layer_norm(
            values[:, 0], (self.embed,), weights["last_gain"], weights["last_shift"], _EPSILON
        )
        return (last @ weights["head"] + weights["head_bias"])[:, 0]

    def graph(self, weights: Weights, *, probability: bool) -> Graph:
        """Return the computation as ONNX."""
        graph = Graph(weights)

        def linear(name: str, layer: int, values: str) -> str:
            product = graph.node("MatMul", values, f"{name}_{layer}")
            return graph.node("Add", product, f"{name}_bias_{layer}")

        def norm(name: str, layer: str, values: str) -> str:
            names = (f"{name}_{what}{layer}" for what in ("gain", "shift"))
            return graph.node("LayerNormalization", values, *names, axis=-1, epsilon=_EPSILON)

        split = graph.integers(0, 0, self.heads, self.embed // self.heads)
        join, last = graph.integers(0, 0, self.embed), graph.integers(self.length - 1)
        share = graph.number(float(1.0 / np.sqrt(self.embed // self.heads)))
        windows = graph.input("rows", ("windows", self.length, self.n_features))
        values = graph.node("MatMul", prepare_nodes(graph, windows), "embedding")
        values = graph.node("Add", values, "positions")

        def heads(name: str, layer: int, values: str, axes: tuple[int, ...]) -> str:
            parts = graph.node("Reshape", linear(name, layer, values), split)
            return graph.node("Transpose", parts, perm=axes)

        for layer in range(self.layers):
            seen = norm("attention", f"_{layer}", values)
            asking = seen
            if layer == self.layers - 1:
                asking = graph.node("Gather", seen, last, axis=1)
                values = graph.node("Gather", values, last, axis=1)
            query = heads("query", layer, asking, (0, 2, 1, 3))
            key = heads("key", layer, seen, (0, 2, 3, 1))
            value = heads("value", layer, seen, (0, 2, 1, 3))
            fit = graph.node("Mul", graph.node("MatMul", query, key), share)
            found = graph.node("MatMul", graph.node("Softmax", fit, axis=-1), value)
            found = graph.node("Transpose", found, perm=(0, 2, 1, 3))
            mixed = linear("mix", layer, graph.node("Reshape", found, join))
            values = graph.node("Add", values, mixed)
            inner = linear("widen", layer, norm("forward", f"_{layer}", values))
            narrow = linear("narrow", layer, graph.node("Relu", inner))
            values = graph.node("Add", values, narrow)
        final = norm("last", "", graph.node("Squeeze", values, graph.integers(1)))
        score_node(graph, final, probability=probability)
        return graph
