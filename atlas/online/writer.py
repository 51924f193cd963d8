"""Writes feature rows to Redis without Feast, in Feast's bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from redis import Redis

from atlas.bus import reaching
from atlas.errors import InvalidInput
from atlas.online.landing import Landing, Row
from atlas.online.wire import (
    double_rows,
    entity_key,
    event_field,
    feature_field,
    key_prefix,
    known_field,
)
from atlas.serving import ReadPlan

__all__ = ["OnlineWriter"]


class OnlineWriter:
    """Writes rows of one view; a row that is older than what is there never lands."""

    def __init__(self, redis: Redis, plan: ReadPlan) -> None:
        self._redis = redis
        self._plan = plan
        self._prefix = key_prefix([plan.join_key])
        self._landing = Landing(plan.view, plan.features)
        self._keys: dict[str, bytes] = {}

    def write(
        self,
        symbols: Sequence[str],
        event_us: Sequence[int] | npt.NDArray[np.int64],
        known_us: Sequence[int] | npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
    ) -> int:
        """Write rows, a thousand in a round trip, and return how many landed.

        A row lands if its event is later than the stored one's, or the same and known later.
        Rows of one symbol are compared in the order given.

        Parameters
        ----------
        event_us, known_us : (n,)
            Microseconds since 1970.
        values : (n, n_features)
            In the plan's order; NaN is null.

        Raises
        ------
        InvalidInput
            If the lengths differ.
        StoreUnavailable
            If Redis does not answer.
        """
        n = len(symbols)
        if (len(event_us), len(known_us)) != (n, n) or values.shape != (
            n,
            len(self._plan.features),
        ):
            raise InvalidInput(
                f"Expected {n} events, {n} known times and values of shape "
                f"({n}, {len(self._plan.features)}) for view {self._plan.view}; found "
                f"{len(event_us)}, {len(known_us)} and {values.shape}."
            )
        rows = [
            Row(self._key(symbol), int(event), int(known), cells)
            for symbol, event, known, cells in zip(
                symbols, event_us, known_us, double_rows(values), strict=True
            )
        ]
        return self._landing.land(self._redis, rows)

    def forget(self, symbols: Sequence[str]) -> None:
        """Delete this view's rows of these symbols: for a replay that is wound back.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        view = self._plan.view
        fields = [feature_field(view, feature) for feature in self._plan.features]
        fields += [event_field(view), known_field(view)]
        with reaching(self._redis):
            pipeline = self._redis.pipeline(transaction=False)
            for symbol in symbols:
                pipeline.hdel(self._key(symbol), *fields)  # type: ignore[arg-type]
            pipeline.execute()

    def _key(self, symbol: str) -> bytes:
        key = self._keys.get(symbol)
        if key is None:
            key = self._keys[symbol] = entity_key(self._prefix, symbol, self._plan.project)
        return key
