"""Which model versions have a file in a state folder, and which one a user means."""

from __future__ import annotations

from pathlib import Path

from atlas.errors import InvalidInput

__all__ = ["filed_versions", "find_version"]


def filed_versions(home: Path) -> dict[str, list[int]]:
    """Return the versions of each model that have a manifest, oldest first."""
    found: dict[str, list[int]] = {}
    for manifest in (home / "models").glob("*/*/manifest.json"):
        if manifest.parent.name.isdecimal():
            found.setdefault(manifest.parent.parent.name, []).append(int(manifest.parent.name))
    return {model: sorted(versions) for model, versions in sorted(found.items())}


def find_version(home: Path, named: str, version: int | None = None) -> tuple[str, int]:
    """Return the model and the version that a user means.

    Parameters
    ----------
    named : str
        A model, or a model and a version: `direction_ohlcv_1m/3`.
    version : int, optional
        None takes the version named, else the newest one.

    Raises
    ------
    InvalidInput
        If there is no such model or version, naming those that there are, or two are named.
    """
    model, _, wanted = named.partition("/")
    known = filed_versions(home)
    if model not in known:
        there = ", ".join(known) or "none: train one first with `atlas train`"
        raise InvalidInput(f"Expected a trained model, found {model!r}. Known are {there}.")
    if wanted and not wanted.isdecimal():
        raise InvalidInput(f"Expected MODEL/VERSION with a whole number, found {named!r}.")
    if wanted and version not in (None, int(wanted)):
        raise InvalidInput(f"Expected one version, found {named} and {version}. Name it once.")
    chosen = int(wanted) if wanted else known[model][-1] if version is None else version
    if chosen not in known[model]:
        there = ", ".join(str(each) for each in known[model])
        raise InvalidInput(f"Expected a version of {model}, found {chosen}. Known are {there}.")
    return model, chosen
