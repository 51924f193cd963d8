"""MLflow's model registry over its REST interface: which versions its aliases point at.

A few requests over the standard library: MLflow itself takes seconds to import.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from atlas.errors import InvalidInput, StoreUnavailable

__all__ = ["MlflowRegistry"]

_TIMEOUT_S = 10.0


class MlflowRegistry:
    """The registered models of one MLflow server.

    Parameters
    ----------
    url : str
        `http://host:port`. Who asks is told by MLflow's own variables, `MLFLOW_TRACKING_USERNAME`
        and `MLFLOW_TRACKING_PASSWORD` or `MLFLOW_TRACKING_TOKEN`.
    """

    def __init__(self, url: str, environ: Mapping[str, str] | None = None) -> None:
        place = urlsplit(url)
        host = place.netloc.rpartition("@")[2]
        self._url = urlunsplit((place.scheme, host, place.path.rstrip("/"), "", ""))
        self._headers = {"Content-Type": "application/json", **_who(environ or os.environ)}

    def aliases(self, model: str) -> dict[str, int] | None:
        """Return the version that each alias of a model points at; None if there is no such model.

        Raises
        ------
        StoreUnavailable
            If the server does not answer.
        """
        try:
            found = self._ask("GET", f"registered-models/get?name={quote(model, safe='')}")
        except InvalidInput:
            return None
        try:
            told = found["registered_model"].get("aliases", [])
            return {each["alias"]: int(each["version"]) for each in told}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreUnavailable(
                f"Expected MLflow at {self._url}; what answered there says no aliases. Mend "
                "MLFLOW_TRACKING_URI."
            ) from error

    def point(self, model: str, alias: str, version: int) -> None:
        """Let an alias point at a version.

        Raises
        ------
        InvalidInput
            If the model has no such version.
        StoreUnavailable
            If the server does not answer.
        """
        fields = {"name": model, "alias": alias, "version": str(version)}
        self._ask("POST", "registered-models/alias", fields)

    def remove(self, model: str, alias: str) -> None:
        """Remove an alias. Raises as `point` does."""
        self._ask("DELETE", "registered-models/alias", {"name": model, "alias": alias})

    def _ask(self, method: str, path: str, fields: Mapping[str, str] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self._url}/api/2.0/mlflow/{path}",
            method=method,
            headers=self._headers,
            data=None if fields is None else json.dumps(fields).encode(),
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                told = error.read(10_000).decode(errors="replace")
            if "RESOURCE_DOES_NOT_EXIST" in told or "INVALID_PARAMETER_VALUE" in told:
                raise InvalidInput(f"MLflow at {self._url} refused {fields or path}.") from error
            raise StoreUnavailable(
                f"Expected an answer of MLflow at {self._url}; found HTTP {error.code}. Check "
                "MLFLOW_TRACKING_URI and who asks."
            ) from error
        except (OSError, ValueError) as error:
            raise StoreUnavailable(
                f"Expected an answer of MLflow at {self._url}; found: {error}. Start it, or mend "
                "MLFLOW_TRACKING_URI."
            ) from error


def _who(environ: Mapping[str, str]) -> dict[str, str]:
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    name, password = (environ.get(f"MLFLOW_TRACKING_{each}") for each in ("USERNAME", "PASSWORD"))
    if not name or not password:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}
