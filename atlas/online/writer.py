"""Writes feature rows to Redis without Feast, in Feast's bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from redis import Redis

from atlas.bus import reaching
from atlas.errors import InvalidInput
from atlas.online.entity_keys import EntityKeys, EntityValue
from atlas.online.landing import Landing, Row
from atlas.online.materialisation.ledger import forget
from atlas.online.values import IN_FLOAT64, encode
from atlas.online.wire import double_rows, event_field, feature_field, history_key, known_field
from atlas.serving import ReadPlan, ValueKind

__all__ = ["OnlineWriter"]

Micros = Sequence[int] | npt.NDArray[np.int64]


class OnlineWriter:
    """Writes rows of one view; a row that is older than what is there never lands."""

    def __init__(self, redis: Redis, plan: ReadPlan) -> None:
        self._redis = redis
        self._plan = plan
        self._key = EntityKeys(plan)
        self._landing = Landing(plan.view, plan.features)
        self._all_doubles = all(kind is ValueKind.DOUBLE for kind in plan.kinds)

    def write(
        self,
        keys: Sequence[EntityValue],
        event_us: Micros,
        known_us: Micros,
        values: npt.NDArray[np.float64],
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> int:
        """Write rows, a thousand in a round trip, and return how many landed.

        A row lands if its event is later than the stored one's, or the same and known later.
        Rows of one key are compared in the order given.

        Parameters
        ----------
        event_us, known_us : (n,)
            Microseconds since 1970.
        values : (n, n_features)
            In the plan's order; NaN is null. A feature that is in `columns` is not looked at here.
        columns : mapping, optional
            By name, n values of each feature that float64 cannot carry, as `Vectors.columns`
            gives them; None is null.

        Raises
        ------
        InvalidInput
            If the lengths differ, a column is missing, or a value or key is not of its kind.
        StoreUnavailable
            If Redis does not answer.
        """
        n = len(keys)
        width = len(self._plan.features)
        if (len(event_us), len(known_us)) != (n, n) or values.shape != (n, width):
            raise InvalidInput(
                f"Expected {n} events, {n} known times and values of shape ({n}, {width}) for view "
                f"{self._plan.view}; found {len(event_us)}, {len(known_us)} and {values.shape}."
            )
        cells = double_rows(values) if self._all_doubles else self._cells(values, columns or {})
        rows = [
            Row(self._key(key), int(event), int(known), row)
            for key, event, known, row in zip(keys, event_us, known_us, cells, strict=True)
        ]
        return self._landing.land(self._redis, rows)

    def forget(self, keys: Sequence[EntityValue]) -> None:
        """Delete this view's rows of these keys: for a replay that is wound back.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        view = self._plan.view
        fields: list[Any] = [feature_field(view, feature) for feature in self._plan.features]
        fields += [event_field(view), known_field(view)]
        with reaching(self._redis):
            pipeline = self._redis.pipeline(transaction=False)
            for key in map(self._key, keys):
                pipeline.hdel(key, *fields)  # type: ignore[arg-type]
                pipeline.unlink(history_key(view, key))
            pipeline.execute()
        # Or the next materialisation would take them as brought online already.
        forget(self._redis, self._plan.project, view)

    def _cells(
        self, values: npt.NDArray[np.float64], columns: Mapping[str, Sequence[Any]]
    ) -> list[tuple[bytes, ...]]:
        plan = self._plan
        cells = []
        for at, (name, kind) in enumerate(zip(plan.features, plan.kinds, strict=True)):
            column = columns.get(name)
            if column is None and kind in IN_FLOAT64:
                column = values[:, at].tolist()
            if column is None or len(column) != len(values):
                raise InvalidInput(
                    f"Expected {len(values)} values of {name} in columns, since float64 does not "
                    f"carry {kind} exactly; found {len(column) if column is not None else 'none'}."
                )
            try:
                cells.append(encode(kind, column))
            except InvalidInput as error:
                raise InvalidInput(f"Feature {name} of view {plan.view}: {error}") from error
        return list(zip(*cells, strict=True))
