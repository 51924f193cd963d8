"""Several engines as one: their odds are mixed as their forecasts of unseen rows deserve.

An artifact is a line that names the format, a line of JSON with weights and sizes, and the members'
own bytes one after another.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from atlas.engines.blending import Blend, blend_log_odds, blend_odds
from atlas.engines.dataset import Dataset, FloatArray
from atlas.engines.engine import Engine, predict_rows
from atlas.engines.features import check_width
from atlas.errors import ArtifactCorrupt, AtlasError, InvalidInput

__all__ = ["EnsembleEngine"]

Member = tuple[str, Mapping[str, Any]]

_FORMAT = b"atlas-ensemble 1\n"


class EnsembleEngine:
    """A classifier that mixes the forecasts of others.

    How they are mixed is learned from forecasts of rows that the members had not seen: each
    contiguous block of time in turn, after purge and embargo. The members that serve then learn
    from all rows.

    Parameters
    ----------
    members : sequence of (str, mapping)
        Name and hyperparameters of each engine, which is seeded with `seed` unless it has its own.
    method : str
        `weighted`: probabilities are averaged, with the weights under which unseen rows were
        likeliest. `stacking`: log odds are added, with the coefficients of a logistic regression
        that is drawn towards the plain average.
    n_splits : int
        Blocks of time, at least two.
    embargo : int
        Bars after a block that are not trained on.
    ridge : float
        How strongly stacking is drawn to the average, in rows of evidence.
    seed : int
        Of the members.
    n_threads : int
        Threads of the members.
    """

    name: ClassVar[str] = "ensemble"
    task: ClassVar[Literal["direction"]] = "direction"

    def __init__(
        self,
        *,
        members: Sequence[Member] = (("xgboost", {}), ("lstm", {}), ("transformer", {})),
        method: Literal["weighted", "stacking"] = "stacking",
        n_splits: int = 5,
        embargo: int = 0,
        ridge: float = 10.0,
        seed: int = 0,
        n_threads: int = 1,
    ) -> None:
        self.members = members
        self.method = method
        self.n_splits = n_splits
        self.embargo = embargo
        self.ridge = ridge
        self.seed = seed
        self.n_threads = n_threads
        self.members_: tuple[Engine, ...] = ()
        self.blend_ = Blend((), 0.0)

    @property
    def window(self) -> int:
        """The longest window of a member."""
        return max(member.window for member in self.members_ or self._new_members())

    @property
    def features_(self) -> tuple[str, ...]:
        """The features that it was trained on, in order."""
        return self.members_[0].features_ if self.members_ else ()

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The keyword arguments that would build this engine again."""
        names = type(self).__init__.__annotations__
        return {name: getattr(self, name) for name in names if name != "return"}

    def fit(self, dataset: Dataset) -> Self:
        """Learn from a dataset; equal data and hyperparameters give equal bytes.

        Raises
        ------
        NotEnoughData
            If the rows that carry weight have one label only, in all or in the rows around a block.
        """
        # With it comes scipy, which a serving process does without.
        from atlas.stats import purged_splits

        dataset.require_both_labels()
        dataset = dataset.take(dataset.weights > 0)
        unseen = np.full((len(dataset), len(self.members)), np.nan)
        for train, test in purged_splits(
            dataset.intervals, n_splits=self.n_splits, embargo=self.embargo
        ):
            fold, block = dataset.take(train), dataset.take(test)
            for column, member in enumerate(self._new_members()):
                unseen[test, column] = predict_rows(member.fit(fold), block)[:, 1]
        weights, up = dataset.weights.astype(np.float64), dataset.y > 0
        blend = (
            blend_log_odds(unseen, up, weights, ridge=self.ridge)
            if self.method == "stacking"
            else blend_odds(unseen, up, weights)
        )
        self.members_ = tuple(member.fit(dataset) for member in self._new_members())
        self.blend_ = blend
        return self

    def predict(self, X: FloatArray) -> NDArray[np.float64]:
        """Return the probabilities of down and up, shape (n_rows, 2); rows sum to 1.

        Raises
        ------
        FeatureMismatch
            If X is not of shape (n_rows, n_features), with an axis of `window` rows between them
            where that is above 1.
        """
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(X, dtype=np.float32)
        up = self.score(rows).astype(np.float64)
        return np.column_stack((1.0 - up, up))

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of up of each row or window.

        Raises
        ------
        FeatureMismatch
            If the rows have another shape than `predict` asks for.
        """
        self._require_learned()
        window = self.window
        check_width(self.features_, rows.shape, window=window)
        said = [member.score(_seen(rows, window, member.window)) for member in self.members_]
        mix = self.blend_.mix_log_odds if self.method == "stacking" else self.blend_.mix_odds
        return mix(said).astype(np.float32)

    def dump(self) -> bytes:
        """Return weights and members; loading runs no code that the bytes bring."""
        self._require_learned()
        return self._encode([member.dump() for member in self.members_])

    @classmethod
    def load(cls, data: bytes, *, n_threads: int = 1, trusted: Collection[str] = ()) -> Self:
        """Rebuild an engine from `dump`.

        Parameters
        ----------
        trusted : collection of str
            Dotted paths of members of the user's own, whose installed class may be run.

        Raises
        ------
        ArtifactCorrupt
            If the bytes are not such an ensemble, or those of a member not such a model.
        InvalidInput
            If a member is of an engine that is not trusted.
        """
        from atlas.engines.catalogue import load_engine

        try:
            head, said, rest = data.split(b"\n", 2)
            if head + b"\n" != _FORMAT:
                raise ValueError(f"{head[:40]!r} for {_FORMAT!r}")
            header = json.loads(said)
            engine = cls(**_frozen(header["hyperparameters"]), n_threads=n_threads)
            engine._check_names()
            ends = np.cumsum([0, *map(int, header["sizes"])]).tolist()
            parts = [rest[start:end] for start, end in pairwise(ends)]
            coefficients, offset = header["coefficients"], header["offset"]
            engine.blend_ = Blend(tuple(map(float, coefficients)), float(offset))
            counts = {len(parts), len(engine.members), len(coefficients)}
            if len(counts) != 1 or not np.isfinite([offset, *coefficients]).all():
                raise ValueError("members without a weight each")
            if engine._encode(parts) != data:
                raise ValueError("other bytes than its members and weights give")
        except (ArithmeticError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ArtifactCorrupt(
                f"Expected an ensemble that EnsembleEngine.dump wrote; found {str(error)[:200]}. "
                "Fetch the blob again, or roll back to an earlier version."
            ) from error
        engine.members_ = tuple(
            load_engine(name, part, n_threads=n_threads, trusted=trusted)
            for (name, _), part in zip(engine.members, parts, strict=True)
        )
        if len({member.features_ for member in engine.members_}) != 1:
            raise ArtifactCorrupt("Expected members of equal features; found others.")
        return engine

    def _encode(self, parts: Sequence[bytes]) -> bytes:
        recipe = {
            name: value for name, value in self.hyperparameters.items() if name != "n_threads"
        }
        header = {
            "coefficients": self.blend_.coefficients,
            "digest": hashlib.sha256(b"".join(parts)).hexdigest(),
            "hyperparameters": recipe,
            "offset": self.blend_.offset,
            "sizes": [len(part) for part in parts],
        }
        return b"".join((_FORMAT, json.dumps(header, sort_keys=True).encode(), b"\n", *parts))

    def _new_members(self) -> list[Engine]:
        # The table names this class too, so it can be read only once both modules are there.
        from atlas.engines.catalogue import engine_class

        self._check_names()
        given = {"seed": self.seed, "n_threads": self.n_threads}
        members: list[Engine] = []
        for name, own in self.members:
            build = engine_class(name)
            taken = inspect.signature(build).parameters
            shared = {key: value for key, value in given.items() if key in taken}
            members.append(build(**{**shared, **own}))
        return members

    def _check_names(self) -> None:
        names = [name for name, _ in self.members]
        if not names or self.name in names or self.method not in ("weighted", "stacking"):
            raise InvalidInput(
                f"Expected members that are no ensembles, mixed by weighted or stacking; found "
                f"{', '.join(names) or 'none'} by {self.method!r}."
            )

    def _require_learned(self) -> None:
        if not self.members_:
            raise AtlasError("Expected a trained engine; this one has learned nothing. Call fit.")


def _seen(rows: NDArray[np.float32], window: int, own: int) -> NDArray[np.float32]:
    """Return the part of a window that a member looks at."""
    if own == window:
        return rows
    last = rows[:, -1] if own == 1 else rows[:, -own:]
    return np.ascontiguousarray(last)


def _frozen(value: Any) -> Any:
    """Return JSON with its lists as tuples, as hyperparameters are written."""
    if isinstance(value, dict):
        return {name: _frozen(part) for name, part in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
