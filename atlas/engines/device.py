"""Where an engine learns: on the processor, or on a GPU where there is one."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from atlas.errors import InvalidInput

__all__ = ["check_device", "has_gpu"]

_DEVICES = ("auto", "cpu", "cuda")


def check_device(device: str) -> None:
    """Raise `InvalidInput` unless it is `auto`, `cpu` or `cuda`."""
    if device not in _DEVICES:
        raise InvalidInput(f"Expected device to be auto, cpu or cuda; found {device!r}.")


@cache
def has_gpu() -> bool:
    """Return whether the machine has a GPU of NVIDIA's that this process may use.

    It asks the driver, which every library that computes there needs, and loads none of them.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        there = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (OSError, AttributeError):
        return False
    return there and count.value > 0
