"""Twelve hot swaps under a full load of rows and questions: nothing fails and nothing is torn."""

import asyncio
import json
import threading
import time

import numpy as np
import pytest
from serving_desk import HASH, MINUTE_US, MODEL, eventually, last_minute, trained

from atlas.bus import read_acks
from atlas.clock import to_micros
from atlas.decision import sides
from atlas.serving import Stage

SYMBOLS = [f"S{i}" for i in range(12)]
SWAPS = 12


class Questions:
    """Asks over so many connections without a pause, and keeps every answer."""

    def __init__(self, port, connections):
        self.answers = []
        self._port, self._connections = port, connections
        self._enough = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()))

    async def _ask(self):
        await asyncio.gather(*(self._client(i) for i in range(self._connections)))

    async def _client(self, number):
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        symbols = [SYMBOLS[number % 12], SYMBOLS[(number + 5) % 12]]
        body = json.dumps({"model": MODEL, "symbols": symbols}).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        while not self._enough.is_set():
            writer.write(head.encode() + body)
            told = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(told.split(b"content-length:")[1].split(b"\r\n")[0])
            answer = json.loads(await reader.readexactly(length))
            self.answers.append((told.split(b" ")[1], answer))
        writer.close()
        await writer.wait_closed()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        self._thread.join(30)


@pytest.mark.parametrize("connections", [4, pytest.param(32, marks=pytest.mark.slow)])
def test_nothing_fails_and_nothing_is_torn(desk, worker_process, connections):
    desk.permit()
    desk.deploy(1, live=1, shadow=2)
    worker_process.start()
    face = worker_process.face
    eventually(face.ready)
    eventually(face.leads)
    rows, first_us, enough = {}, last_minute() - MINUTE_US, threading.Event()

    def feed():
        tick = 0
        while not enough.is_set():
            values = desk.rows(len(SYMBOLS), seed=tick)
            rows.update({(s, first_us + tick): v for s, v in zip(SYMBOLS, values, strict=True)})
            desk.feed(SYMBOLS, first_us + tick, values)
            tick += 1
            time.sleep(0.005)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        eventually(lambda: face.predict(*SYMBOLS).status_code == 200)
        with Questions(face.port, connections) as questions:
            for generation in range(2, 2 + SWAPS):
                live = live_in(generation)
                desk.deploy(generation, live=live, shadow=3 - live)
                eventually(lambda g=generation: all_follow(desk, g))
                said = len(questions.answers)
                eventually(lambda n=said: len(questions.answers) >= n + 2 * connections)
    finally:
        enough.set()
        feeder.join()
    eventually(lambda: desk.unfinished() == 0, within=60)
    # Whose score it is, as the training would have computed it of exactly that row.
    whole = np.array(list(rows.values()), dtype=np.float32)
    scores = {
        (version, *at): float(score)
        for version in (1, 2)
        for at, score in zip(rows, trained(version).engine.score(whole), strict=True)
    }
    assert {status for status, _ in questions.answers} == {b"200"}
    answered = [
        (a["version"], p["symbol"], to_micros_of(p["event_time"]), p["score"], p["side"])
        for _, a in questions.answers
        for p in a["predictions"]
    ]
    assert {a["feature_hash"] for _, a in questions.answers} == {HASH}
    assert [one for one in answered if one[3] != scores[one[:3]]] == []
    assert [one for one in answered if one[4] != sides(one[3], 0.05)] == []
    assert {a["generation"] for _, a in questions.answers} == set(range(1, 2 + SWAPS))
    odd = [a for _, a in questions.answers if a["version"] != live_in(a["generation"])]
    assert odd == []
    for stage in (Stage.LIVE, Stage.SHADOW):
        said = desk.signals(stage)
        assert {(s.symbol, s.event_us) for s in said} == rows.keys()
        torn = [
            s
            for s in said
            if s.score != scores[s.version, s.symbol, s.event_us]
            or s.feature_hash != HASH
            or (s.version == live_in(s.generation)) != (stage is Stage.LIVE)
        ]
        assert torn == []


def live_in(generation):
    return 2 - generation % 2


def all_follow(desk, generation):
    acks = read_acks(desk.redis, MODEL)
    return acks and all(ack.generation == generation for ack in acks.values())


def to_micros_of(text):
    from datetime import datetime

    return to_micros(datetime.fromisoformat(text))
