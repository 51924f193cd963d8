"""Rows go to the node of a Redis Cluster that holds their slot."""

import shutil
import subprocess
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_processes import end, free_port
from redis import Redis
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot as published_slot

from atlas.online.landing import Landing, packed_text
from atlas.online.materialisation.claim import Claim
from atlas.online.materialisation.ledger import Coverage, commit, read_coverage
from atlas.online.materialisation.pipe import LandingPipe
from atlas.online.materialisation.slots import SLOTS, by_slot, key_slot
from atlas.online.wire import known_bytes, timestamp_bytes

PATIENCE_S = 60


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        # CRC-16/XMODEM of the check string of all CRCs.
        (b"123456789", 0x31C3 % SLOTS),
        (b"", 0),
        (b"foo", 12182),
        (b"somekey", 11058),
        (b"foo{hash_tag}", 2515),
        (b"bar{hash_tag}", 2515),
    ],
)
def test_slots_are_the_published_ones(key: bytes, slot: int) -> None:
    assert key_slot(key) == slot


@given(st.one_of(st.binary(), st.text(alphabet="{}ab").map(str.encode)))
def test_slots_are_those_of_the_client_library(key: bytes) -> None:
    assert key_slot(key) == published_slot(key)


@given(st.lists(st.binary(max_size=6)))
def test_every_key_is_in_exactly_one_group_its_slots(keys: list[bytes]) -> None:
    groups = {slot: places.tolist() for slot, places in by_slot(keys)}
    assert sorted(place for places in groups.values() for place in places) == [*range(len(keys))]
    assert all(key_slot(keys[at]) == slot for slot, places in groups.items() for at in places)


@pytest.fixture(scope="module")
def cluster(redis_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three nodes, each with a third of the slots."""
    folder = tmp_path_factory.mktemp("cluster")
    ports, processes = [], []
    while len(ports) < 3:
        # The nodes talk to each other ten thousand above.
        port = free_port()
        if port < 55_000 and port not in ports:
            ports.append(port)
    try:
        for port in ports:
            place = folder / str(port)
            place.mkdir()
            with (place / "log").open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        [
                            *(redis_binary, "--port", str(port), "--bind", "127.0.0.1"),
                            *("--cluster-enabled", "yes", "--dir", str(place), "--save", ""),
                        ],
                        stdout=log,
                        stderr=log,
                    )
                )
        nodes = [Redis(port=port) for port in ports]
        for node in nodes:
            _until(node.ping)
        for at, node in enumerate(nodes):
            slots = range(SLOTS * at // 3, SLOTS * (at + 1) // 3)
            node.execute_command("CLUSTER ADDSLOTS", *slots)
            nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", ports[at])
        for node in nodes:
            _until(lambda node=node: node.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
            _until(lambda node=node: len(node.execute_command("CLUSTER NODES")) == 3)
            node.close()
        client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port) for port in ports])
        yield client
        client.close()
    finally:
        for process in processes:
            end(process)
        shutil.rmtree(folder, ignore_errors=True)


def test_rows_land_on_every_node_and_are_compared_there(cluster: RedisCluster) -> None:
    keys = [f"key-{number}".encode() for number in range(500)]
    landing = Landing("book", ["mid"])

    def send(event_us: int, value: bytes) -> int:
        packed = b"".join(
            packed_text(part)
            for pair in zip(
                landing.fields, (timestamp_bytes(event_us), known_bytes(1), value), strict=True
            )
            for part in pair
        )
        pipe = LandingPipe(cluster, landing)
        try:
            pipe.send(pa.array(keys, pa.binary()), pa.array([packed] * len(keys), pa.binary()))
            return pipe.finish()
        finally:
            pipe.close()

    assert [send(2, b"new"), send(1, b"old"), send(3, b"newest")] == [500, 0, 500]
    assert {cluster.hget(key, landing.fields[2]) for key in keys} == {b"newest"}
    sizes = [node.redis_connection.dbsize() for node in cluster.get_primaries()]
    assert (sum(sizes), min(sizes) > 100) == (500, True)


def test_claim_and_ledger_of_a_view_share_a_slot(cluster: RedisCluster) -> None:
    entry = Coverage("d", ((1, 2),), 3, None)
    with Claim(cluster, "desk", "book", lease_s=5, wait_s=0) as claim:
        commit(cluster, claim, "desk", "book", entry, {})
    assert read_coverage(cluster, "desk", "book") == entry


def _until(true: object) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if true():  # type: ignore[operator]
                return
        except Exception:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline
        time.sleep(0.05)
