"""The online store: feature vectors in Redis, read by the worker and by Feast.

The names that Feast uses load when first asked for, so that the worker, which reads with
`OnlineReader`, never imports Feast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atlas.online.reader import OnlineReader, Vectors
from atlas.online.sequence import History, SequenceWriter
from atlas.online.status import Status
from atlas.online.writer import OnlineWriter

if TYPE_CHECKING:
    from atlas.online.compute_engine import ComputeEngine, ComputeEngineConfig
    from atlas.online.plan import compile_plan
    from atlas.online.store import RedisOnlineStore, RedisOnlineStoreConfig

__all__ = [
    "ComputeEngine",
    "ComputeEngineConfig",
    "History",
    "OnlineReader",
    "OnlineWriter",
    "RedisOnlineStore",
    "RedisOnlineStoreConfig",
    "SequenceWriter",
    "Status",
    "Vectors",
    "compile_plan",
]

_LAZY = {
    "ComputeEngine": "compute_engine",
    "ComputeEngineConfig": "compute_engine",
    "RedisOnlineStore": "store",
    "RedisOnlineStoreConfig": "store",
    "compile_plan": "plan",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"atlas.online.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'atlas.online' has no attribute {name!r}")
