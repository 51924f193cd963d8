"""Whether a model and a vector agree about their features, and how to say that they do not."""

from __future__ import annotations

from collections.abc import Sequence

from atlas.errors import FeatureMismatch

__all__ = ["check_features", "check_width"]


def check_features(
    trained: Sequence[str], given: Sequence[str], *, model: str | None = None
) -> None:
    """Raise unless both name the same features in the same order.

    Parameters
    ----------
    model : str or None
        Whose features they are, such as `direction_ohlcv_1m/41`, for the message.

    Raises
    ------
    FeatureMismatch
        The message names what is missing, unknown, or out of place.
    """
    if tuple(trained) == tuple(given):
        return
    missing = [name for name in trained if name not in set(given)]
    unknown = [name for name in given if name not in set(trained)]
    found = [
        f"{what}: {', '.join(names)}."
        for what, names in (("Missing", missing), ("Unknown", unknown))
        if names
    ]
    if not found and len(given) == len(trained):
        at = next(i for i, (a, b) in enumerate(zip(trained, given, strict=True)) if a != b)
        found = [f"Out of order: position {at} holds {given[at]}, expected {trained[at]}."]
    elif not found:
        twice = sorted({name for name in given if list(given).count(name) > 1})
        found = [f"Named twice: {', '.join(twice)}."]
    whose = "The model" if model is None else f"Model {model}"
    raise FeatureMismatch(
        f"{whose} was trained on {len(trained)} features; the vector has {len(given)}. "
        f"{' '.join(found)} Re-materialise, or roll back to an earlier version."
    )


def check_width(trained: Sequence[str], shape: tuple[int, ...], *, window: int = 1) -> None:
    """Raise `FeatureMismatch` unless an array of this shape has a column a feature.

    Parameters
    ----------
    window : int
        Rows that a score looks at; above 1 the array has an axis for them.
    """
    expected = (len(trained),) if window == 1 else (window, len(trained))
    if len(shape) != len(expected) + 1 or shape[1:] != expected:
        sizes = ", ".join(map(str, expected))
        raise FeatureMismatch(
            f"The model was trained on {len(trained)} features; expected an array of shape "
            f"(n_rows, {sizes}), found {shape}. Its features are {', '.join(trained)}."
        )
