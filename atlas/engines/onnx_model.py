"""ONNX models, written by hand: equal weights give equal bytes, and what is read back is checked.

A model is a list of nodes over weights of 32-bit floats, with a text beside it. Only standard
operators occur and nothing lies in other files.

Source: onnx.proto of ONNX 1.12 (IR version 8, operator set 17).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.engines.protowire import read_fields, write_float, write_integer, write_text
from atlas.errors import ArtifactCorrupt

__all__ = ["Graph", "Weights", "read_onnx"]

Weights = Mapping[str, NDArray[np.float32]]

_IR_VERSION, _OPERATOR_SET = 8, 17
_FLOAT, _INT64 = 1, 7  # of TensorProto.DataType
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_INTS = 1, 2, 7
_KEY = "atlas"
# Field numbers.
_MODEL_GRAPH, _MODEL_PROPERTIES = 7, 14
_GRAPH_INITIALIZER = 5


class Graph:
    """A computation under construction: each call of `node` adds one and names what it yields."""

    def __init__(self, weights: Weights) -> None:
        self._nodes: list[bytes] = []
        self._tensors = [_float_tensor(name, weight) for name, weight in weights.items()]
        self._constants = 0
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        """Declare an array of floats that is fed; a dimension is a number or a name."""
        self._inputs.append(_declaration(name, shape))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Declare that a value is asked for under this name."""
        self._nodes.append(_node("Identity", (value,), (name,), {}))
        self._outputs.append(_declaration(name, shape))

    def integers(self, *values: int) -> str:
        """Return the name of a constant list of integers."""
        self._constants += 1
        name = f"integers_{self._constants}"
        dims, data = write_integer(1, len(values)), np.array(values, "<i8").tobytes()
        self._tensors.append(
            dims + write_integer(2, _INT64) + write_text(8, name) + write_text(9, data)
        )
        return name

    def number(self, value: float) -> str:
        """Return the name of a constant float."""
        self._constants += 1
        name = f"number_{self._constants}"
        self._tensors.append(_float_tensor(name, np.array(value, np.float32)))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator that yields one value; return its name."""
        return self.nodes(operator, *inputs, yields=1, **attributes)[0]

    def nodes(self, operator: str, *inputs: str, yields: int, **attributes: Any) -> tuple[str, ...]:
        """Add an operator that yields several values; return their names."""
        number = len(self._nodes)
        names = tuple(f"value_{number}_{i}" for i in range(yields))
        self._nodes.append(_node(operator, inputs, names, attributes))
        return names

    def encode(self, text: str) -> bytes:
        """Return the model's bytes, with the text in its metadata."""
        graph = b"".join(
            (
                write_text(1, *self._nodes),
                write_text(2, "atlas"),
                write_text(_GRAPH_INITIALIZER, *self._tensors),
                write_text(11, *self._inputs),
                write_text(12, *self._outputs),
            )
        )
        return b"".join(
            (
                write_integer(1, _IR_VERSION),
                write_text(2, "atlas"),
                write_text(_MODEL_GRAPH, graph),
                write_text(8, write_text(1, "") + write_integer(2, _OPERATOR_SET)),
                write_text(_MODEL_PROPERTIES, write_text(1, _KEY) + write_text(2, text)),
            )
        )


def read_onnx(data: bytes) -> tuple[str, Weights]:
    """Return the text and the weights of a model that `Graph.encode` wrote.

    Nothing else is looked at: the caller builds the model again and compares the bytes, so that
    no node, file name or operator of another's making reaches the runtime.

    Raises
    ------
    ArtifactCorrupt
        If the bytes are no such model.
    """
    try:
        model = [(field, _bytes(value)) for field, value in read_fields(memoryview(data))]
        texts = [value for field, value in model if field == _MODEL_PROPERTIES]
        graphs = [value for field, value in model if field == _MODEL_GRAPH]
        if len(texts) != 1 or len(graphs) != 1:
            raise ValueError(f"{len(graphs)} graphs with {len(texts)} texts")
        text = dict(read_fields(texts[0]))
        tensors = (
            dict(read_fields(_bytes(value)))
            for field, value in read_fields(graphs[0])
            if field == _GRAPH_INITIALIZER
        )
        weights = {
            bytes(_bytes(tensor[8])).decode(): np.frombuffer(_bytes(tensor[9]), "<f4")
            for tensor in tensors
            if tensor[2] == _FLOAT
        }
        return bytes(_bytes(text[2])).decode(), weights
    except (KeyError, ValueError, TypeError) as error:
        raise ArtifactCorrupt(
            f"Expected a model that Atlas wrote as ONNX; found {type(error).__name__}: "
            f"{str(error)[:200]}. Fetch the blob again, or roll back to an earlier version."
        ) from error


def _bytes(value: int | memoryview) -> memoryview:
    return memoryview(b"") if isinstance(value, int) else value


def _float_tensor(name: str, values: NDArray[np.float32]) -> bytes:
    data = np.ascontiguousarray(values, "<f4").tobytes()
    return b"".join(
        (
            write_integer(1, *values.shape),
            write_integer(2, _FLOAT),
            write_text(8, name),
            write_text(9, data),
        )
    )


def _declaration(name: str, shape: Sequence[int | str]) -> bytes:
    dims = (
        write_text(2, size) if isinstance(size, str) else write_integer(1, size) for size in shape
    )
    tensor = write_integer(1, _FLOAT) + write_text(2, write_text(1, *dims))
    return write_text(1, name) + write_text(2, write_text(1, tensor))


def _node(
    operator: str, inputs: Sequence[str], names: Sequence[str], attributes: Mapping[str, Any]
) -> bytes:
    return b"".join(
        (
            write_text(1, *inputs),
            write_text(2, *names),
            write_text(3, names[0]),
            write_text(4, operator),
            write_text(5, *(_attribute(name, value) for name, value in attributes.items())),
        )
    )


def _attribute(name: str, value: Any) -> bytes:
    head = write_text(1, name)
    if isinstance(value, float):
        return head + write_float(2, value) + write_integer(20, _ATTRIBUTE_FLOAT)
    if isinstance(value, int):
        # A negative axis counts from the end; it is written as 64 bits in two's complement.
        return head + write_integer(3, value % 2**64) + write_integer(20, _ATTRIBUTE_INT)
    return head + write_integer(8, *(i % 2**64 for i in value)) + write_integer(20, _ATTRIBUTE_INTS)
