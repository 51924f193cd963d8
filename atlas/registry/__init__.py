"""What is kept of models: their bytes, the log of their deployments, and the log of halts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atlas.registry.blobs import BlobStore, Resealed, open_blobs
from atlas.registry.stages import Action, ModelState, Move, VersionState, plan_moves

if TYPE_CHECKING:
    from atlas.registry.database import Database
    from atlas.registry.deployments import DeploymentLog, Entry
    from atlas.registry.halts import HaltEntry, HaltKind, HaltLog
    from atlas.registry.latch import Latch

__all__ = [
    "Action",
    "BlobStore",
    "Database",
    "DeploymentLog",
    "Entry",
    "HaltEntry",
    "HaltKind",
    "HaltLog",
    "Latch",
    "ModelState",
    "Move",
    "Resealed",
    "VersionState",
    "open_blobs",
    "plan_moves",
]

# The worker fetches blobs, and must not pay for SQLAlchemy.
_LAZY = {
    "Database": "database",
    "DeploymentLog": "deployments",
    "Entry": "deployments",
    "HaltEntry": "halts",
    "HaltKind": "halts",
    "HaltLog": "halts",
    "Latch": "latch",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
