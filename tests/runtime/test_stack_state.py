"""What is known of a stack is written whole, and its folder has one owner."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import StackBusy
from atlas.runtime import ComponentState, State, read_states
from atlas.runtime.state import FolderLock, write_states

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

states = st.builds(
    ComponentState,
    name=st.text("abc-", min_size=1, max_size=4),
    state=st.sampled_from(State),
    since=st.datetimes(timezones=st.just(UTC)),
    pid=st.none() | st.integers(1, 1 << 22),
    port=st.none() | st.integers(1, 65535),
    took_s=st.none() | st.floats(0, 1e6),
    attempt=st.integers(0, 9),
    restarts=st.integers(0, 9),
    reason=st.none() | st.text(max_size=20),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(states, unique_by=lambda state: state.name))
def test_states_are_read_as_they_were_written(tmp_path_factory, listed: list[ComponentState]):
    home = tmp_path_factory.mktemp("home")
    write_states(home, listed)
    assert list(read_states(home).values()) == listed


def test_states_that_another_process_wrote_are_not_taken_for_the_wanted_ones(tmp_path):
    write_states(tmp_path, [ComponentState("a", State.HEALTHY, NOW)])
    assert read_states(tmp_path, writer=os.getpid() + 1) == {}


def test_a_folder_without_a_stack_has_no_states(tmp_path):
    assert read_states(tmp_path) == {}


def test_a_reader_never_sees_half_a_state_file(tmp_path):
    small = [ComponentState("a", State.HEALTHY, NOW)]
    large = [ComponentState(f"c{i}", State.FAILED, NOW, reason="x" * 200) for i in range(200)]
    write_states(tmp_path, small)
    ended = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not ended.is_set():
            seen.add(len(read_states(tmp_path)))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        write_states(tmp_path, large)
        write_states(tmp_path, small)
    ended.set()
    reader.join()
    assert seen <= {1, 200}


@pytest.mark.parametrize(
    ("state", "reason", "settled", "lost"),
    [
        (State.WAITING, None, False, False),
        (State.WAITING, "not started: it needs redis", True, True),
        (State.STARTING, "ended with code 1", False, False),
        (State.HEALTHY, None, True, False),
        (State.UNHEALTHY, "silent", False, False),
        (State.RESTARTING, "was ended by SIGKILL", False, False),
        (State.FAILED, "the disk is full", True, True),
        (State.STOPPED, None, True, False),
    ],
)
def test_a_start_has_ended_when_the_component_is_up_or_will_never_be(
    state: State, reason: str | None, settled: bool, lost: bool
):
    known = ComponentState("a", state, NOW, reason=reason)
    assert (known.settled, known.lost) == (settled, lost)


def test_the_holder_of_a_folder_is_known_while_it_holds_it(tmp_path):
    lock = FolderLock(tmp_path)
    holders = [lock.holder()]
    lock.acquire()
    holders.append(FolderLock(tmp_path).holder())
    lock.release()
    holders.append(lock.holder())
    assert holders == [None, os.getpid(), None]


def test_readers_do_not_keep_a_stack_from_starting(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.release()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            FolderLock(tmp_path).holder()

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    owners: list[int | None] = []
    for _ in range(20):
        lock.acquire()
        owners.append(FolderLock(tmp_path).holder())
        lock.release()
    ended.set()
    for reader in readers:
        reader.join()
    assert owners == [os.getpid()] * 20


def test_a_held_folder_is_refused_with_what_to_do(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    with pytest.raises(StackBusy, match="Stop it with Ctrl-C or SIGTERM, or set ATLAS_HOME"):
        FolderLock(tmp_path).acquire()
    lock.release()
