"""A paper desk of the test's own, on real engines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from clickhouse_connect.driver.client import Client
from paper_market import COSTS, register
from redis import Redis

from atlas.bus import grant
from atlas.paper import Broker, PaperLedger
from atlas.registry import DeploymentLog


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def ledger(url: str) -> PaperLedger:
    return PaperLedger(url)


@pytest.fixture
def open_broker(url: str, redis: Redis, clickhouse: Client) -> Callable[..., Broker]:
    """Open a broker of a permitted desk that knows versions 1 to 3."""
    grant(redis, "ada")
    log = DeploymentLog(url)
    register(log, 1, 2, 3)

    def build(ledger: PaperLedger, patience: timedelta = timedelta(minutes=5)) -> Broker:
        return Broker(ledger, redis, clickhouse, log, costs=COSTS, patience=patience)

    return build
