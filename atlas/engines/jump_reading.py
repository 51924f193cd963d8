"""What a jump engine learned: the scale of its features, its regimes; and the JSON of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.engines.jump import JumpModel
from atlas.engines.jump_regimes import Regime
from atlas.errors import ArtifactCorrupt, InvalidInput

__all__ = ["JumpReading", "as_given", "positions", "read_reading", "standardised", "write_reading"]

_FORMAT = "atlas-jump-engine/1"

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class JumpReading:
    """How rows are read as regimes, and what each regime is worth.

    Parameters
    ----------
    features : tuple of str
        What a row holds, in order.
    used : tuple of str
        Those that tell regimes apart.
    mean, scale : (n_used,)
        Mean and reciprocal deviation of each.
    model : JumpModel
        Over the used features in that scale.
    regimes : tuple of Regime
        By the number of the model's states.
    """

    features: tuple[str, ...]
    used: tuple[str, ...]
    mean: Floats32
    scale: Floats32
    model: JumpModel
    regimes: tuple[Regime, ...]

    @cached_property
    def given(self) -> tuple[Any, ...]:
        """What the compiled loops take: columns, mean, scale, centroids, penalty."""
        columns = positions(self.used, self.features)
        scaling = (self.mean.astype(np.float64), self.scale.astype(np.float64))
        return (columns, *scaling, self.model.centroids_, float(self.model.penalty))

    def end_states(
        self, rows: Floats32, begins: NDArray[np.intp], ends: NDArray[np.intp]
    ) -> NDArray[np.int32]:
        """Return the state in which a cold filter over rows `begins[i]` to `ends[i]` ends.

        Both are inclusive; rows is (n_rows, n_features). −1 where all of them are null.
        """
        from atlas.engines.jump_windows import end_states, standardise

        columns, mean, scale, centroids, penalty = self.given
        states = np.empty(len(ends), np.int32)
        scaled = standardise(as_given(rows), columns, mean, scale)
        end_states(scaled, begins, ends, centroids, penalty, states)
        return states

    def anchors_in(self, used: tuple[str, ...], mean: Floats32, scale: Floats32) -> Any:
        """Return the anchors of the regimes' names over other features, in another scale.

        A feature that said nothing in this training lies at its mean in the other, equally far from
        all.
        """
        own = self.model.anchors_
        anchors = np.where(np.isnan(own[:, :1]), np.nan, np.zeros((len(own), len(used))))
        for j, name in enumerate(used):
            if name in self.used:
                i = self.used.index(name)
                raw = own[:, i] / float(self.scale[i]) + float(self.mean[i])
                anchors[:, j] = (raw - float(mean[j])) * float(scale[j])
        return anchors


def positions(names: tuple[str, ...], features: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the column of each name; raise `InvalidInput` where one is none, or comes twice."""
    unknown = [name for name in names if name not in features]
    if unknown or len(set(names)) != len(names):
        raise InvalidInput(
            f"Expected columns among the features {', '.join(features)}, each once; found "
            f"{', '.join(unknown or names)}."
        )
    return np.array([features.index(name) for name in names], np.intp)


def standardised(
    rows: Floats32, columns: NDArray[np.intp], mean: Floats32, scale: Floats32
) -> NDArray[np.float64]:
    """Return the chosen columns in deviations from their mean, (n_rows, n_chosen)."""
    from atlas.engines.jump_windows import standardise

    given = (columns, mean.astype(np.float64), scale.astype(np.float64))
    scaled: NDArray[np.float64] = standardise(as_given(rows), *given)
    return scaled


def as_given(rows: NDArray[np.floating[Any]]) -> Floats32:
    """Return rows as the compiled loops take them: of one kind, whoever owns them."""
    given = np.ascontiguousarray(rows, np.float32).view()
    given.flags.writeable = False
    return given


def write_reading(reading: JumpReading, recipe: Mapping[str, Any]) -> bytes:
    """Return hyperparameters and what was learned as JSON; equal engines give equal bytes."""
    return _canonical(
        {
            "features": reading.features,
            "format": _FORMAT,
            "hyperparameters": dict(recipe),
            "mean": reading.mean.tolist(),
            "model": json.loads(reading.model.dump()),
            "regimes": [asdict(regime) for regime in reading.regimes],
            "scale": reading.scale.tolist(),
            "used": reading.used,
        }
    )


def read_reading(data: bytes) -> tuple[dict[str, Any], JumpReading]:
    """Return the hyperparameters and what was learned; no code of theirs is run.

    Raises
    ------
    ArtifactCorrupt
        If the bytes are not what `write_reading` wrote.
    """
    try:
        said = json.loads(data)
        if said["format"] != _FORMAT:
            raise ValueError(f"format {said['format']!r}")
        recipe = dict(said["hyperparameters"])
        if recipe["columns"] is not None:
            recipe["columns"] = tuple(map(str, recipe["columns"]))
        reading = JumpReading(
            features=tuple(map(str, said["features"])),
            used=tuple(map(str, said["used"])),
            mean=np.array(said["mean"], np.float32),
            scale=np.array(said["scale"], np.float32),
            model=JumpModel.load(_canonical(said["model"])),
            regimes=tuple(Regime(**regime) for regime in said["regimes"]),
        )
        _check(reading, recipe)
        if write_reading(reading, recipe) != data:
            raise ValueError("other bytes than it would write")
    except (
        *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
        ArtifactCorrupt,
    ) as error:
        raise ArtifactCorrupt(
            f"Expected a model that JumpEngine.dump wrote; found {str(error)[:200]}. "
            "Fetch the blob again, or roll back to an earlier version."
        ) from error
    return recipe, reading


def _check(reading: JumpReading, recipe: Mapping[str, Any]) -> None:
    model, regimes, used = reading.model, reading.regimes, reading.used
    numbers = [*reading.mean, *reading.scale]
    for regime in regimes:
        numbers += [regime.weight, regime.up_weight, regime.mean_return]
    positions(used, reading.features)
    agree = (
        all(recipe[name] == value for name, value in model.hyperparameters.items())
        and len(regimes) == model.n_states
        and model.centroids_.shape[1:] == reading.mean.shape == reading.scale.shape == (len(used),)
        and set(used) <= set(recipe["columns"] or reading.features)
        and np.isfinite(numbers).all()
        and (reading.scale > 0).all()
        and all(
            type(each.rows) is type(each.entries) is int
            and 0 <= each.entries <= each.rows
            and 0 <= each.up_weight <= each.weight
            and (each.rows > 0) == (each.weight > 0) == (each.entries > 0)
            for each in regimes
        )
    )
    if not agree:
        raise ValueError("parts that contradict each other")


def _canonical(said: Any) -> bytes:
    return json.dumps(said, sort_keys=True, allow_nan=False).encode()
