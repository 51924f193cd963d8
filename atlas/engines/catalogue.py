"""Which engines there are, and how one is found by its name: in the table, or by dotted path."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from atlas.engines.boosting import XGBoostEngine
from atlas.engines.dataset import Task
from atlas.engines.engine import Engine
from atlas.engines.ensemble import EnsembleEngine
from atlas.engines.features import check_features
from atlas.engines.jump_engine import JumpEngine
from atlas.engines.lstm import LSTMEngine
from atlas.engines.transformer import TransformerEngine
from atlas.errors import InvalidInput

__all__ = ["ENGINES", "engine_class", "load_engine"]

ENGINES: Mapping[str, Callable[..., Engine]] = MappingProxyType(
    {
        XGBoostEngine.name: XGBoostEngine,
        LSTMEngine.name: LSTMEngine,
        TransformerEngine.name: TransformerEngine,
        JumpEngine.name: JumpEngine,
        EnsembleEngine.name: EnsembleEngine,
    }
)
"""Name to class; each class has `load(data, *, n_threads)`, the inverse of `dump`."""

_DOTTED_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_PARTS = ("fit", "predict", "score", "dump", "load")


def engine_class(name: str) -> Any:
    """Return the class of that name, or import the user's own by `package.module:Class`.

    Called with hyperparameters it is an `Engine`; its `load(data, *, n_threads)` is another.

    A dotted path is imported, which runs that module's code: it must be the user's own word, as on
    the command line, never one out of a file that somebody else wrote.

    Raises
    ------
    InvalidInput
        If there is no such engine, or the class is none.
    """
    if name in ENGINES:
        return ENGINES[name]
    if not _DOTTED_PATH.fullmatch(name):
        raise InvalidInput(
            f"Expected an engine among {', '.join(ENGINES)}, or package.module:Class; "
            f"found {name!r}."
        )
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            f"Expected to import the engine {name}; found: {error}. Install its package here."
        ) from error
    lacking = [part for part in _PARTS if not callable(getattr(found, part, None))]
    if not isinstance(found, type) or lacking:
        raise InvalidInput(
            f"Expected {name} to be an engine's class; it lacks {', '.join(lacking) or 'a class'}."
        )
    if getattr(found, "name", None) != name:
        raise InvalidInput(
            f"Expected the class attribute `name` of {name} to be its dotted path; found "
            f"{getattr(found, 'name', None)!r}. Manifests name the engine by it."
        )
    return found


def load_engine(
    name: str,
    data: bytes,
    *,
    features: Sequence[str] | None = None,
    task: Task = "direction",
    n_threads: int = 1,
    trusted: Collection[str] = (),
) -> Engine:
    """Rebuild a trained engine from the bytes of its `dump`; no code of theirs is run.

    Parameters
    ----------
    features : sequence of str or None
        What the caller will feed it, in order; checked against what it was trained on.
    task : str
        What the caller takes the scores for; a return must not be read as a probability.
    n_threads : int
        Threads of one prediction; one is quickest for few rows.
    trusted : collection of str
        Dotted paths of the user's own engines that may be loaded here. Loading one imports the
        installed class of that name and runs its `load`; the bytes still bring no code.

    Raises
    ------
    InvalidInput
        If there is no engine of that name, it is not trusted, or has another task.
    ArtifactCorrupt
        If the bytes are not a model of that engine.
    FeatureMismatch
        If the features differ from those that it was trained on.
    """
    if name not in ENGINES and name not in trusted:
        raise InvalidInput(
            f"Expected an engine among {', '.join((*ENGINES, *trusted))}; found {name!r}. One of "
            "your own must be named as trusted where it is loaded."
        )
    options = {"trusted": trusted} if name == EnsembleEngine.name else {}
    engine: Engine = engine_class(name).load(data, n_threads=n_threads, **options)
    if engine.task != task:
        raise InvalidInput(
            f"Expected a model that tells the {task}; found one that tells the {engine.task}."
        )
    if features is not None:
        check_features(engine.features_, features)
    return engine
