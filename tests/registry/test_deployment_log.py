"""The deployment log: append-only, one winner a generation, and nothing rejected ever trades."""

import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from atlas.clock import ManualClock
from atlas.errors import (
    DeploymentRefused,
    InvalidInput,
    InvalidSettings,
    StaleGeneration,
    StoreUnavailable,
)
from atlas.registry import Action, DeploymentLog, HaltLog
from atlas.serving import Manifest, ReadPlan, Route, Stage, feature_hash, trades

MODEL = "direction_ohlcv_1m"
Build = Callable[..., Manifest]


def enter(log: DeploymentLog, manifest: Manifest, *, passed: bool = True) -> None:
    log.register(manifest, passed=passed, report="reports/1.html", who="ada", why="trained")


def go(log: DeploymentLog, action: Action, version: int, **options: Any) -> Any:
    return log.move(MODEL, action, version, who="ada", why="test", **options)


def test_a_model_that_nobody_registered_is_at_generation_zero(log: DeploymentLog) -> None:
    assert log.models() == ()
    assert log.history() == ()
    assert log.state(MODEL).route() == Route(MODEL, 0)


def test_registering_enters_the_version_and_its_verdict_at_once(
    log: DeploymentLog, manifest: Build
) -> None:
    enter(log, manifest(1))
    enter(log, manifest(2), passed=False)
    moves = [(e.generation, e.version, e.from_stage, e.to_stage) for e in log.history(MODEL)]
    assert moves == [
        (1, 1, None, "registered"),
        (1, 1, "registered", "gated"),
        (2, 2, None, "registered"),
        (2, 2, "registered", "rejected"),
    ]
    assert log.state(MODEL).route() == Route(MODEL, 2)


def test_an_entry_says_who_when_why_and_with_which_bytes(url: str, manifest: Build) -> None:
    at = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
    log = DeploymentLog(url, clock=ManualClock(at))
    enter(log, manifest(1))
    entry = log.history()[-1]
    assert (entry.who, entry.why, entry.at, entry.report) == (
        "ada",
        "trained",
        at,
        "reports/1.html",
    )
    assert entry.blob == manifest(1).blob
    assert entry.manifest == dataclasses.replace(manifest(1), stage=Stage.GATED, generation=1)


def test_registering_the_same_again_changes_nothing_but_other_bytes_are_refused(
    log: DeploymentLog, manifest: Build
) -> None:
    enter(log, manifest(1))
    enter(log, manifest(1))
    assert log.state(MODEL).generation == 1
    with pytest.raises(DeploymentRefused, match="to be new"):
        enter(log, dataclasses.replace(manifest(1), blob="f" * 64))
    with pytest.raises(DeploymentRefused, match="to be new"):
        enter(log, manifest(1), passed=False)


def test_the_way_to_live_and_back(log: DeploymentLog, manifest: Build) -> None:
    for version in (1, 2):
        enter(log, manifest(version))
        go(log, Action.STAGE, version)
        go(log, Action.PROMOTE, version)
    state = log.state(MODEL)
    assert state.live is not None
    assert state.former_live is not None
    assert (state.live.version, state.former_live.version) == (2, 1)
    after = go(log, Action.ROLL_BACK, 1)
    assert {v: s.stage for v, s in after.versions.items()} == {1: "live", 2: "retired"}
    assert after.former_live is None
    assert after == log.state(MODEL)


def test_a_new_shadow_sends_the_former_one_back_to_gated(
    log: DeploymentLog, manifest: Build
) -> None:
    for version in (1, 2):
        enter(log, manifest(version))
        go(log, Action.STAGE, version)
    stages = {v: s.stage for v, s in log.state(MODEL).versions.items()}
    assert stages == {1: Stage.GATED, 2: Stage.SHADOW}


def test_a_served_manifest_says_its_stage_and_the_generation_it_came_there(
    log: DeploymentLog, manifest: Build
) -> None:
    enter(log, manifest(1))
    go(log, Action.STAGE, 1)
    go(log, Action.PROMOTE, 1)
    enter(log, manifest(2), passed=False)
    go(log, Action.OBSERVE, 2)
    route = log.state(MODEL).route()
    assert route == Route(
        MODEL,
        5,
        live=dataclasses.replace(manifest(1), stage=Stage.LIVE, generation=3),
        observed=dataclasses.replace(manifest(2), stage=Stage.REJECTED, generation=5),
    )


@pytest.mark.parametrize("action", [Action.STAGE, Action.PROMOTE, Action.ROLL_BACK])
@pytest.mark.parametrize("before", [(), (Action.OBSERVE,), (Action.RETIRE,)])
def test_a_rejected_version_has_no_way_to_shadow_or_live(
    log: DeploymentLog, manifest: Build, action: Action, before: tuple[Action, ...]
) -> None:
    enter(log, manifest(1), passed=False)
    for step in before:
        go(log, step, 1)
    with pytest.raises(DeploymentRefused, match="passed every gate"):
        go(log, action, 1)


@pytest.mark.parametrize(
    ("steps", "action", "found"),
    [
        ((), Action.PROMOTE, "to be shadow or canary to promote; found gated"),
        ((), Action.WITHDRAW, "to be shadow or canary to withdraw; found gated"),
        ((), Action.OBSERVE, "to be rejected to observe; found gated"),
        ((), Action.ROLL_BACK, "former live version"),
        ((Action.STAGE, Action.PROMOTE), Action.STAGE, "found live"),
    ],
)
def test_a_move_that_the_present_stage_does_not_allow_is_refused(
    log: DeploymentLog, manifest: Build, steps: tuple[Action, ...], action: Action, found: str
) -> None:
    enter(log, manifest(1))
    for step in steps:
        go(log, step, 1)
    before = log.history()
    with pytest.raises(DeploymentRefused, match=found):
        go(log, action, 1)
    assert log.history() == before


def test_an_unknown_version_is_refused_with_those_that_are_known(
    log: DeploymentLog, manifest: Build
) -> None:
    enter(log, manifest(3))
    with pytest.raises(DeploymentRefused, match=r"found 4\. Known: 3\."):
        go(log, Action.STAGE, 4)


def test_nobody_moves_without_a_name(log: DeploymentLog, manifest: Build) -> None:
    enter(log, manifest(1))
    with pytest.raises(InvalidInput, match="name"):
        log.move(MODEL, Action.STAGE, 1, who=" ", why="")


def test_whoever_decided_on_an_older_generation_is_refused(
    log: DeploymentLog, manifest: Build
) -> None:
    enter(log, manifest(1))
    enter(log, manifest(2))
    with pytest.raises(StaleGeneration, match="at generation 1; found 2"):
        go(log, Action.STAGE, 1, expected=1)


def test_of_many_who_decide_on_one_generation_one_wins(url: str, manifest: Build) -> None:
    log = DeploymentLog(url)
    for version in range(1, 7):
        enter(log, manifest(version))
    expected = log.state(MODEL).generation
    outcomes: list[str] = []
    barrier = threading.Barrier(6)

    def decide(version: int) -> None:
        own = DeploymentLog(url)
        barrier.wait()
        try:
            go(own, Action.STAGE, version, expected=expected)
            outcomes.append("won")
        except StaleGeneration:
            outcomes.append("stale")

    threads = [threading.Thread(target=decide, args=(v,)) for v in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["stale"] * 5 + ["won"]
    assert log.state(MODEL).generation == expected + 1


def test_of_many_processes_that_decide_on_one_generation_one_wins(
    url: str, log: DeploymentLog, manifest: Build, tmp_path: Path
) -> None:
    code = f"""
import pathlib, sys, time
from atlas.errors import StaleGeneration
from atlas.registry import Action, DeploymentLog
log = DeploymentLog(sys.argv[2])
expected = log.state("{MODEL}").generation
pathlib.Path(sys.argv[3], sys.argv[1]).touch()
while not pathlib.Path(sys.argv[3], "go").exists():
    time.sleep(0.0001)
try:
    log.move("{MODEL}", Action.STAGE, int(sys.argv[1]), who="ada", why="", expected=expected)
except StaleGeneration:
    sys.exit(3)
"""
    for version in (1, 2, 3):
        enter(log, manifest(version))
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(version), url, str(tmp_path)])
        for version in (1, 2, 3)
    ]
    while not all((tmp_path / str(version)).exists() for version in (1, 2, 3)):
        assert all(process.poll() in (None, 0) for process in processes)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert sorted(process.wait() for process in processes) == [0, 3, 3]
    assert log.state(MODEL).generation == 4


def test_registrations_from_many_processes_are_all_entered(url: str) -> None:
    code = """
import sys
from atlas.registry import DeploymentLog
from atlas.serving import Manifest, ReadPlan, Stage
first, url = int(sys.argv[1]), sys.argv[2]
log = DeploymentLog(url)
for version in range(first, first + 5):
    plan = ReadPlan("atlas", "ohlcv_1m", ("symbol",), ("a",), 0)
    manifest = Manifest("m", version, Stage.REGISTERED, 0, "xgboost", f"{version:064x}", plan, "h",
                        "1m", 0.0, 1)
    log.register(manifest, passed=True, report="", who="ada", why="")
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(first), url]) for first in (0, 100, 200)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    state = DeploymentLog(url).state("m")
    assert state.generation == 15
    assert set(state.versions) == {*range(5), *range(100, 105), *range(200, 205)}


EVERYWHERE = (
    "UPDATE deployments SET who = 'nobody'",
    "UPDATE deployments SET to_stage = 'live' WHERE id = 1",
    "DELETE FROM deployments",
    "UPDATE halts SET kind = 'release'",
    "DELETE FROM halts",
)
OF_ONE_ENGINE = {
    "sqlite": (
        "REPLACE INTO deployments SELECT * FROM deployments",
        "INSERT OR REPLACE INTO deployments SELECT id + 100, model, generation, position, action,"
        " version, from_stage, 'live', who, why, at_us, report, blob, manifest FROM deployments",
        "REPLACE INTO halts SELECT * FROM halts",
    ),
    "postgresql": (
        "TRUNCATE deployments",
        "TRUNCATE halts CASCADE",
        "UPDATE deployments SET who = 'nobody' WHERE false",
        "INSERT INTO deployments SELECT * FROM deployments ON CONFLICT (id) DO UPDATE SET who = ''",
        "INSERT INTO halts SELECT * FROM halts ON CONFLICT (sequence) DO UPDATE SET why = ''",
        "SET session_replication_role = replica; DELETE FROM halts",
    ),
}


def test_no_statement_changes_what_was_written(
    log: DeploymentLog, halts: HaltLog, url: str, manifest: Build
) -> None:
    enter(log, manifest(1))
    halts.halt("ada", "test")
    before = (log.history(), halts.history())
    engine = create_engine(url, poolclass=NullPool)
    statements = EVERYWHERE + OF_ONE_ENGINE[engine.dialect.name]
    for statement in statements:
        with (
            pytest.raises(IntegrityError, match="is append-only"),
            engine.begin() as connection,
        ):
            connection.exec_driver_sql(statement)
    assert (log.history(), halts.history()) == before


def test_models_do_not_touch_each_other(log: DeploymentLog, manifest: Build) -> None:
    enter(log, manifest(1))
    enter(log, manifest(1, "other"))
    go(log, Action.STAGE, 1)
    assert log.models() == (MODEL, "other")
    assert log.state("other").shadow is None
    assert log.state("other").generation == 1


def test_a_database_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log = DeploymentLog(f"sqlite:///{tmp_path}/file/deployments.db")
    with pytest.raises(StoreUnavailable, match="Expected the SQL database at sqlite"):
        log.history()


def test_a_database_that_is_damaged_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "deployments.db").write_bytes(b"no database, but long enough to look like a file")
    with pytest.raises(StoreUnavailable, match="not a database"):
        DeploymentLog(f"sqlite:///{tmp_path}/deployments.db").history()


@pytest.mark.parametrize("address", ["nonsense", "oracledb9://x/y", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidSettings, match="address of a database"):
        DeploymentLog(address)


SERVED = (Stage.SHADOW, Stage.CANARY, Stage.LIVE)


class Desk(RuleBasedStateMachine):
    """Any sequence of actions, allowed or not, beside the rule told slowly."""

    url: str
    models = (f"model_{number}" for number in count())

    def __init__(self) -> None:
        super().__init__()
        self.model = next(self.models)
        self.log = DeploymentLog(self.url, clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
        self.passed: dict[int, bool] = {}
        self.were_shadow: set[int] = set()
        self.lives: list[int] = []

    @rule(passed=st.booleans())
    def register(self, passed: bool) -> None:
        version = len(self.passed) + 1
        plan = ReadPlan("atlas", "ohlcv_1m", ("symbol",), ("a",), 0)
        blob, hash_ = f"{version:064x}", feature_hash("ohlcv_1m", ("a",))
        new = Manifest(
            self.model, version, Stage.LIVE, 9, "xgboost", blob, plan, hash_, "1m", 0.0, 1
        )  # whatever stage a caller claims
        self.log.register(new, passed=passed, report="r", who="ada", why="")
        self.passed[version] = passed

    @precondition(lambda self: self.passed)
    @rule(action=st.sampled_from(sorted(set(Action) - {Action.REGISTER})), pick=st.integers(0))
    def act(self, action: Action, pick: int) -> None:
        version = pick % len(self.passed) + 1
        before = self.log.state(self.model)
        try:
            after = self.log.move(self.model, action, version, who="ada", why="")
        except DeploymentRefused:
            assert self.log.state(self.model) == before
            return
        # What the writer was told is what any reader finds.
        assert after == self.log.state(self.model)
        stage = after.versions[version].stage
        if stage is Stage.SHADOW:
            self.were_shadow.add(version)
        if action is Action.PROMOTE:
            assert before.versions[version].stage in (Stage.SHADOW, Stage.CANARY)
            self.lives.append(version)
        if action is Action.ROLL_BACK:
            if before.live:
                assert self.lives.pop() == before.live.version
            assert self.lives[-1] == version
        if action is Action.RETIRE and before.live and before.live.version == version:
            self.lives.pop()

    @invariant()
    def only_what_passed_and_was_a_shadow_is_live(self) -> None:
        state = self.log.state(self.model)
        stages = {v: s.stage for v, s in state.versions.items()}
        served = [v for v, s in stages.items() if s in SERVED]
        assert all(self.passed[v] for v in served)
        assert all(v in self.were_shadow for v, s in stages.items() if trades(s))
        for stage in SERVED:
            assert sum(s is stage for s in stages.values()) <= 1

    @invariant()
    def a_route_shows_each_version_as_what_it_is(self) -> None:
        state = self.log.state(self.model)
        route = state.route()
        assert route.generation == state.generation
        shown = {m.version: m.stage for m in route.manifests()}
        assert shown == {
            v: s.stage
            for v, s in state.versions.items()
            if s.stage in SERVED or v == state.observed
        }
        assert route.observed is None or route.observed.stage is Stage.REJECTED


def test_any_sequence_of_actions_leaves_every_version_where_the_rule_says(url: str) -> None:
    class OnThisEngine(Desk):
        pass

    OnThisEngine.url = url
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OnThisEngine,
        settings=settings(max_examples=12, stateful_step_count=15, deadline=None),
    )


def test_a_clock_of_a_replayed_market_does_not_stamp_the_log(url: str, manifest: Build) -> None:
    enter(DeploymentLog(url), manifest(1))
    age = datetime.now(UTC) - DeploymentLog(url).history()[0].at
    assert timedelta(0) <= age < timedelta(minutes=1)
