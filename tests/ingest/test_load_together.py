"""Loads at once: whatever the order in which they get through, nothing is lost or doubled."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import pytest
from stored import NOW, bar, bars, batch, close, closes, ledger, quarantined, rows

from atlas.errors import StoreUnavailable
from atlas.ingest import load_candles

MINUTES = 60


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("atlas.ingest.load._BLOCK_BARS", 16)
    monkeypatch.setattr("atlas.clickhouse.quarantine._BLOCK_ROWS", 4)


class InStep:
    """A client that, before its first writes, waits until the others are about to write as well."""

    def __init__(self, client, barrier, *, writes=3):
        self._client = client
        self._barrier = barrier
        self._left = writes

    def __getattr__(self, name):
        return getattr(self._client, name)

    def insert_arrow(self, *arguments, **options):
        if self._left:
            self._left -= 1
            self._barrier.wait(timeout=20)
        return self._client.insert_arrow(*arguments, **options)


def together(new_client, database, loads):
    """Run loads (batch, now) at once, so that each has looked before any writes."""
    barrier = threading.Barrier(len(loads))
    clients = [InStep(new_client(database), barrier) for _ in loads]
    with ThreadPoolExecutor(len(loads)) as pool:
        running = [
            pool.submit(load_candles, client, content, now=now)
            for client, (content, now) in zip(clients, loads, strict=True)
        ]
        return [each.result() for each in running]


def content(price, *, source="test", bad=10):
    return batch(
        *(bar(n, close=price) for n in range(MINUTES)),
        *(bar(MINUTES + n, low=-1.0) for n in range(bad)),
        source=source,
    )


def test_the_same_new_file_loaded_twice_at_once_is_stored_once(new_client):
    client = new_client()
    together(new_client, client.database, [(content(11.0), NOW)] * 2)
    assert closes(client) == [(close(n), close(n), 11.0) for n in range(MINUTES)]
    assert [row[3] for row in quarantined(client)] == [MINUTES + n + 1 for n in range(10)]
    assert sum(row[4] for row in ledger(client)) == MINUTES


def test_the_same_correction_loaded_twice_at_once_is_stored_once(new_client):
    client = new_client()
    load_candles(client, content(11.0), now=NOW)
    moments = [NOW, NOW + timedelta(milliseconds=3)]
    together(new_client, client.database, [(content(10.0), now) for now in moments])
    found = closes(client)
    corrections = [(time, price) for time, known, price in found if known != time]
    assert len(found) == 2 * MINUTES
    assert corrections == [(close(n), 10.0) for n in range(MINUTES)]
    assert {known for time, known, _ in found if known != time} <= set(moments)
    assert sum(row[5] for row in ledger(client)) == MINUTES


def test_different_files_of_the_same_bars_at_once_are_versions_one_after_the_other(new_client):
    client = new_client()
    prices = (9.5, 10.0, 10.5, 11.0)
    together(
        new_client,
        client.database,
        [(content(price, source=f"feed {price}"), NOW) for price in prices],
    )
    versions = {}
    for time, known, price in closes(client):
        versions.setdefault(time, []).append((known, price))
    assert list(versions) == [close(n) for n in range(MINUTES)]
    for time, found in versions.items():
        assert found[0][0] == time
        assert all(a[0] < b[0] for a, b in pairwise(found))
        # Each value arrived once: none is lost, and none follows itself.
        assert sorted(price for _, price in found) == list(prices)
    assert sum(row[4] for row in ledger(client)) == MINUTES
    assert sum(row[5] for row in ledger(client)) == MINUTES * (len(prices) - 1)
    assert len(quarantined(client)) == 10 * len(prices)


def test_parts_of_a_history_at_once_are_all_stored(new_client):
    client = new_client()
    parts = [
        batch(*(bar(n) for n in range(first, first + 40)), source=f"part {first}")
        for first in (0, 20, 40, 60)
    ]
    together(new_client, client.database, [(part, NOW) for part in parts])
    assert closes(client) == [(close(n), close(n), 11.0) for n in range(100)]


def test_what_each_load_brought_is_told_by_its_rows(new_client):
    client = new_client()
    together(
        new_client,
        client.database,
        [(content(price, source=f"feed {price}"), NOW) for price in (10.0, 11.0)],
    )
    brought = rows(client, "SELECT load_id, count() FROM bars_1m GROUP BY load_id ORDER BY load_id")
    assert brought == sorted((row[0], row[4] + row[5]) for row in ledger(client))
    assert len(bars(client)) == 2 * MINUTES


def test_rows_that_never_appear_are_an_error_not_an_endless_loop(new_client, monkeypatch):
    monkeypatch.setattr("atlas.clickhouse.appends._FIRST_WAIT_S", 0.0001)
    client = new_client()

    class Swallowing(InStep):
        def insert_arrow(self, *arguments, **options):
            return None

    swallowing = Swallowing(client, threading.Barrier(1))
    with pytest.raises(StoreUnavailable, match="found none after 9 tries"):
        load_candles(swallowing, batch(bar(0)), now=NOW)
