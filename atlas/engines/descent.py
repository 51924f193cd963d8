"""How a net learns: gradient descent that stops early, the same weights from the same data.

The only module that needs torch; it is imported when something is to be learned.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.engines.lessons import Lessons
from atlas.engines.net import Net
from atlas.engines.onnx_model import Weights
from atlas.errors import AtlasError

__all__ = ["Course", "descend"]

_FIXED = frozenset({"mean", "scale"})


@dataclass(frozen=True)
class Course:
    """How long and how fast to learn.

    Parameters
    ----------
    learning_rate : float
        Of Adam at the beginning; it halves after every `patience // 2` epochs without gain.
    patience : int
        Epochs without gain on the later part after which learning ends; the best weights are kept.
    gradient_norm : float
        Longer gradients are cut to this length.
    device : str
        `cpu`, `cuda`, or `auto` for the second where there is one.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    patience: int
    dropout: float
    gradient_norm: float
    seed: int
    device: str


def descend(net: Net, lessons: Lessons, course: Course) -> Weights:
    """Return the weights that fit the later rows best.

    Draws come from NumPy and from a generator of torch's on the processor, whatever the device, so
    that a GPU sees the same batches and the same zeros.

    Raises
    ------
    AtlasError
        If the loss is not finite after any epoch.
    """
    name = "cuda" if course.device == "auto" and torch.cuda.is_available() else course.device
    device = torch.device("cpu" if name == "auto" else name)
    random = np.random.default_rng(course.seed)
    weights = {
        name: torch.from_numpy(np.array(lessons.fixed.get(name, value))).to(device)
        for name, value in net.initial(random).items()
    }
    learned = [value.requires_grad_() for name, value in weights.items() if name not in _FIXED]
    adam = _Adam(learned, course.learning_rate)
    drop = _dropout(course.dropout, torch.Generator().manual_seed(course.seed), device)

    best, kept, without_gain = math.inf, {}, 0
    with _one_thread():
        for _ in range(course.epochs):
            order = random.permutation(lessons.earlier)
            for start in range(0, len(order), course.batch_size):
                rows = order[start : start + course.batch_size]
                loss = _loss(net, weights, lessons, rows, drop) / len(rows)
                adam.step(torch.autograd.grad(loss, learned), course.gradient_norm)
            later = _later_loss(net, weights, lessons, course.batch_size)
            if later < best:
                best, without_gain = later, 0
                kept = {
                    name: value.detach().cpu().numpy().copy() for name, value in weights.items()
                }
                continue
            without_gain += 1
            if without_gain >= course.patience:
                break
            if without_gain % max(1, course.patience // 2) == 0:
                adam.rate /= 2
    if not kept:
        raise AtlasError(
            f"Expected a finite loss after an epoch; found {later} with learning rate "
            f"{course.learning_rate}. Lower it, or look for extreme feature values."
        )
    return kept


class _Adam:
    """Steps as long as the gradient is steady; torch.optim would import a compiler for them, 3 s.

    Source: Kingma and Ba (2015), "Adam: A Method for Stochastic Optimization", Algorithm 1.
    """

    def __init__(self, weights: Sequence[Any], rate: float) -> None:
        self.rate = rate
        self._weights = weights
        self._first = [torch.zeros_like(weight) for weight in weights]
        self._second = [torch.zeros_like(weight) for weight in weights]
        self._steps = 0

    def step(self, gradients: Sequence[Any], longest: float) -> None:
        """Move against the gradient, which is cut to the length `longest`."""
        self._steps += 1
        norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients))
        cut = torch.clamp(longest / (norm + 1e-12), max=1.0)
        first_share, second_share = 1.0 - 0.9**self._steps, 1.0 - 0.999**self._steps
        with torch.no_grad():
            for weight, gradient, first, second in zip(
                self._weights, gradients, self._first, self._second, strict=True
            ):
                gradient = gradient * cut
                first.lerp_(gradient, 0.1)
                second.lerp_(gradient.square(), 0.001)
                spread = (second / second_share).sqrt_().add_(1e-8)
                weight.addcdiv_(first, spread, value=-self.rate / first_share)


def _loss(
    net: Net,
    weights: Mapping[str, Any],
    lessons: Lessons,
    rows: NDArray[np.intp],
    drop: Callable[[Any], Any],
) -> Any:
    device = weights["head"].device
    scores = net.forward(weights, torch.from_numpy(lessons.windows[rows]).to(device), drop)
    targets = torch.from_numpy(lessons.targets[rows]).to(device)
    if lessons.is_label:
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            scores, targets, reduction="none"
        )
    else:
        losses = (scores - targets).square()
    return (losses * torch.from_numpy(lessons.weights[rows]).to(device)).sum()


def _later_loss(net: Net, weights: Mapping[str, Any], lessons: Lessons, batch_size: int) -> float:
    with torch.no_grad():
        return sum(
            float(_loss(net, weights, lessons, lessons.later[start : start + batch_size], _keep))
            for start in range(0, len(lessons.later), batch_size)
        )


def _keep(values: Any) -> Any:
    return values


def _dropout(share: float, generator: Any, device: Any) -> Callable[[Any], Any]:
    if share == 0.0:
        return _keep

    def drop(values: Any) -> Any:
        kept = torch.rand(values.shape, generator=generator) >= share
        return values * kept.to(device) / (1.0 - share)

    return drop


_threads = threading.Lock()
_learning, _before = 0, 1


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: how sums are shared among more changes the last bits.

    The setting is the whole process's, so the last of several that learn at once restores it.
    """
    global _learning, _before
    with _threads:
        if _learning == 0:
            _before = torch.get_num_threads()
            torch.set_num_threads(1)
        _learning += 1
    try:
        yield
    finally:
        with _threads:
            _learning -= 1
            if _learning == 0:
                torch.set_num_threads(_before)
