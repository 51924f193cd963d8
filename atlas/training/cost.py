"""What training takes: seconds of processor and of GPU, and what they cost at the desk's prices."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atlas.engines.device import has_gpu

__all__ = ["Cost", "Prices", "now", "uses_gpu"]

_HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of processor time, all threads together, and of a GPU held."""

    cpu_s: float = 0.0
    gpu_s: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cpu_s + other.cpu_s, self.gpu_s + other.gpu_s)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.cpu_s - other.cpu_s, self.gpu_s - other.gpu_s)

    @property
    def on_cpu(self) -> Cost:
        """The same without the GPU, for work that held none."""
        return Cost(self.cpu_s)


@dataclass(frozen=True, slots=True)
class Prices:
    """What an hour of one processor core and of one GPU costs, in the desk's currency."""

    cpu_hour: float = 0.0
    gpu_hour: float = 0.0

    def of(self, cost: Cost) -> float:
        """Return the price of some work."""
        return (cost.cpu_s * self.cpu_hour + cost.gpu_s * self.gpu_hour) / _HOUR_S


def now() -> Cost:
    """Return this process's time so far; the difference of two is what lay between."""
    return Cost(time.process_time(), time.perf_counter())


def uses_gpu(parameters: Mapping[str, Any]) -> bool:
    """Tell whether an engine of these hyperparameters learns on a GPU here."""
    return parameters.get("device", "cpu") != "cpu" and has_gpu()
