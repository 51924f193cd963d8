"""Any engine as an MLflow model: its own bytes, and how MLflow loads them.

`mlflow.pyfunc.load_model` gives what predicts probabilities from an array of rows or windows. The
bytes bring no code; an engine of the user's own is imported by its dotted path, which the person
who loads the model must have put there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from atlas.engines import Engine, load_engine
from atlas.errors import InvalidInput

__all__ = ["FLAVOR", "load_model", "save_model"]

FLAVOR = "atlas"
_BYTES = "model.bin"


def save_model(
    engine: Engine,
    path: str,
    mlflow_model: Any = None,
    *,
    with_bytes: bool = True,
    **options: Any,
) -> None:
    """Write an engine as an MLflow model; `mlflow.models.Model.log` calls it.

    Parameters
    ----------
    with_bytes : bool
        False leaves the model itself out: it is kept encrypted, in the blob store alone.
    """
    import mlflow
    from mlflow.models import Model

    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    model = mlflow_model or Model()
    if (signature := options.get("signature")) is not None:
        model.signature = signature
    told = {"engine": engine.name, "task": engine.task}
    if with_bytes:
        (folder / _BYTES).write_bytes(engine.dump())
        model.add_flavor(FLAVOR, data=_BYTES, **told)
        mlflow.pyfunc.add_to_model(model, loader_module=__name__, data=_BYTES)
    else:
        model.add_flavor(FLAVOR, **told)
    model.save(str(folder / "MLmodel"))


def load_model(path: str, *, trusted: tuple[str, ...] = ()) -> Engine:
    """Load an engine from a folder that `save_model` wrote.

    Parameters
    ----------
    trusted : tuple of str
        Dotted paths of the user's own engines that may be loaded.

    Raises
    ------
    InvalidInput
        If the model itself was left out, as it is kept encrypted.
    """
    from mlflow.models import Model

    folder = Path(path)
    told = Model.load(str(folder / "MLmodel")).flavors[FLAVOR]
    if "data" not in told:
        raise InvalidInput(
            f"Expected the bytes of a model in {folder}; MLflow was given none, since models are "
            "kept encrypted. Get them from the blob store by the version's tag `blob`."
        )
    data = (folder / told["data"]).read_bytes()
    return load_engine(told["engine"], data, task=told["task"], trusted=trusted)


class _Scores:
    """What MLflow asks of a loaded model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def predict(self, rows: Any, params: Any = None) -> Any:
        """Return the probabilities of down and up, or the forecast return."""
        return self._engine.predict(np.asarray(rows, dtype=np.float32))


def _load_pyfunc(path: str) -> _Scores:
    """Load for `mlflow.pyfunc`, which hands over the path of the bytes."""
    return _Scores(load_model(str(Path(path).parent)))
