"""How much a training may cost: what each engine's hyperparameters are in each profile."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

__all__ = ["Profile", "profile_of"]

Profile = Literal["full", "verify"]

# Small nets and few epochs, so that ten trials on three folds of 10 000 windows take minutes.
_COURSE = {"epochs": 8, "patience": 4, "batch_size": 256, "max_windows": 10_000}
_NETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "lstm": {**_COURSE, "sequence": 60, "units": (32, 16), "learning_rate": 3e-3},
        "transformer": {
            **_COURSE,
            "sequence": 40,
            "embed": 32,
            "heads": 4,
            "feed_forward": 64,
            "layers": 2,
            "learning_rate": 1e-3,
        },
    }
)
# Each member learns three times.
_MEMBERS = (
    ("xgboost", {}),
    *((name, {**net, "epochs": 2, "max_windows": 5_000}) for name, net in _NETS.items()),
)
_VERIFY: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        **_NETS,
        "jump": {"n_starts": 3},
        "ensemble": {"members": _MEMBERS, "n_splits": 2},
    }
)


def profile_of(engine: str, profile: Profile) -> Mapping[str, Any]:
    """Return the hyperparameters that a profile changes.

    `full` changes none. `verify` shows that everything works, within minutes on two cores; its
    models are not for trading.
    """
    return {} if profile == "full" else _VERIFY.get(engine, {})
