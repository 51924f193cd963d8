"""How a move is told: the feature row online, then state, regime and changes in one step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from redis import Redis

from atlas.bus.regimes import RegimeChange, RegimeMove, ToldRegime, move_regimes
from atlas.bus.script import Argument
from atlas.features import RegimeSet
from atlas.online import OnlineWriter
from atlas.regimes import LiveRegime, Moved, RegimeRow
from atlas.serving import feature_hash
from atlas.telemetry import get_logger

__all__ = ["RegimePublisher"]

log = get_logger(__name__)


class RegimePublisher:
    """Tells of moves; a service that dies in between tells the same again, and nothing twice."""

    def __init__(self, redis: Redis, regimes: RegimeSet) -> None:
        self._redis = redis
        self._view = regimes.view
        self._writer = OnlineWriter(redis, regimes.plan)
        self._kinds = regimes.kinds
        self._features = regimes.features
        self._hash = feature_hash(regimes.view, regimes.features)

    def publish(self, moves: Mapping[str, tuple[Moved, LiveRegime]]) -> dict[str, bool]:
        """Tell of each symbol's move; say of each whether its rows were new.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        rows = {
            symbol: (moved.row, live.model_version)
            for symbol, (moved, live) in moves.items()
            if moved.row is not None
        }
        # Before the step: who is told of a row finds it. Written twice it lands once.
        self._write(rows)
        batch = [self._move(symbol, moved, live) for symbol, (moved, live) in moves.items()]
        done = dict(zip(moves, move_regimes(self._redis, self._view, batch), strict=True))
        for move in batch:
            for change in move.changes if done[move.told.symbol] else ():
                log.info(
                    "regime_changed",
                    symbol=change.symbol,
                    regime=change.regime,
                    former=change.former,
                    confidence=round(change.confidence, 4),
                )
            if move.told.gap_bars:
                log.warning("bars_missing", symbol=move.told.symbol, bars=move.told.gap_bars)
        return done

    def _move(self, symbol: str, moved: Moved, live: LiveRegime) -> RegimeMove:
        steadied, row = moved.steadied, moved.row
        told = ToldRegime(
            symbol=symbol,
            regime=steadied.regime,
            confidence=steadied.confidence,
            since_us=steadied.since_us,
            event_us=moved.event_us,
            model_version=live.model_version,
            likeliest=row.regime if row is not None else None,
            held=str(steadied.held) if steadied.held is not None else None,
            gap_bars=moved.gap_bars,
        )
        changes = tuple(
            RegimeChange(symbol, c.regime, c.former, c.confidence, c.event_us, live.model_version)
            for c in moved.changes
        )
        notification = self._notification(symbol, row) if row is not None else {}
        return RegimeMove(told, live.snapshot(), changes, notification)

    def _notification(self, symbol: str, row: RegimeRow) -> dict[str, Argument]:
        return {
            "symbol": symbol,
            "event_us": row.event_us,
            "feature_hash": self._hash,
            "values": np.array([_numbers(row)[name] for name in self._features], "<f8").tobytes(),
        }

    def _write(self, rows: Mapping[str, tuple[RegimeRow, str]]) -> None:
        if not rows:
            return
        told = [row for row, _ in rows.values()]
        values = [[_numbers(row).get(name, np.nan) for name in self._kinds] for row in told]
        self._writer.write(
            list(rows),
            [row.event_us for row in told],
            [row.known_us for row in told],
            np.array(values, np.float64),
            {"model_version": [version for _, version in rows.values()]},
        )


def _numbers(row: RegimeRow) -> dict[str, float]:
    named = {
        "regime": row.regime,
        "regime_level": row.level,
        "regime_gap": row.gap,
        "regime_age": row.age,
    }
    return {name: np.nan if value is None else float(value) for name, value in named.items()}
