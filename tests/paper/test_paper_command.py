"""`atlas paper` shows what each version has earned, by route."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from paper_market import COSTS, bars, signal, store
from redis import Redis

from atlas.bus import publish
from atlas.paper import Broker, PaperLedger
from atlas.serving import Stage

ATLAS = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'home' / 'deployments.db'}"


def test_what_a_version_earned_is_shown_by_route(
    atlas: ATLAS,
    ledger: PaperLedger,
    open_broker: Callable[..., Broker],
    redis: Redis,
    clickhouse: Client,
) -> None:
    store(clickhouse, [bars({5: 100.0, 10: 110.0, 15: 99.0})])
    publish(redis, [signal(minute, side) for minute, side in ((5, 1), (10, 0), (15, 1))])
    publish(redis, [signal(m, 1, stage=Stage.SHADOW, version=2) for m in (5, 10, 15)])
    broker = open_broker(ledger)
    while broker.step():
        pass
    code, out, _ = atlas("paper")
    assert code == 0
    assert out == (
        "model version route trades win rate net drawdown since (UTC) "
        "direction_ohlcv_1m 1 live 1 100.0% +9.860% 0.00% 2024-01-01 00:05 "
        "direction_ohlcv_1m 2 shadow 1 0.0% -0.070% 0.07% 2024-01-01 00:05"
    )
    code, out, _ = atlas("paper", "direction_ohlcv_1m", "--json")
    shadow: dict[str, Any] = json.loads(out)[1]
    assert (code, shadow["route"], shadow["trades"], shadow["hours"]) == (0, "shadow", 1, 1)
    assert shadow["net"] == pytest.approx(-COSTS.per_side)
    assert shadow["error"] is None


def test_nothing_traded_is_said_and_exits_with_1(atlas: ATLAS) -> None:
    assert atlas("paper") == (1, "Nothing was traded on paper yet.", "")
