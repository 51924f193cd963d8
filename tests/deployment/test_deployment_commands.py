"""The commands: each on a real log and a real Redis, by what it prints and how it exits."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from atlas import bus
from atlas.bus import is_permitted, publish
from atlas.deployment import Desk
from atlas.registry import DeploymentLog, HaltLog
from atlas.serving import Signal, Stage

MODEL = "direction_ohlcv_1m"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'home' / 'deployments.db'}"


def test_halt_and_release_are_one_command_each(
    atlas: Callable[..., Any], redis: Redis, url: str
) -> None:
    code, out, _ = atlas("release", "--reason", "the desk opens")
    assert (code, out) == (0, "Released (entry 1).")
    assert is_permitted(redis)
    code, out, _ = atlas("halt", "--reason", "odd prices")
    assert (code, out) == (0, "Halted (entry 2). Release with: atlas release --reason …")
    assert not is_permitted(redis)
    code, out, _ = atlas("release", "--reason", "prices are right")
    assert re.match(r"Halted since .* UTC by ada@\S+: odd prices Released \(entry 3\)\.", out)
    assert [(e.kind, e.why) for e in HaltLog(url).history()] == [
        ("release", "the desk opens"),
        ("halt", "odd prices"),
        ("release", "prices are right"),
    ]


def test_halt_asks_for_a_reason(atlas: Callable[..., Any], redis: Redis) -> None:
    assert atlas("halt")[0] == 2


def test_deploy_walks_to_live_and_rollback_goes_back(
    atlas: Callable[..., Any], desk: Desk, start_worker: Callable[..., Any]
) -> None:
    start_worker()
    for version in ("1", "2"):
        code, out, err = atlas("deploy", MODEL, "--version", version, "--min-rows", "10")
        assert (code, err) == (0, "")
        assert f"{MODEL}/{version} is live." in out
    code, out, _ = atlas("rollback", MODEL, "--why", "losses")
    assert code == 0
    assert out.startswith(f"{MODEL}/1 is live, 2 no longer trades. 1 workers followed in ")
    last = desk.log.history()[-1]
    assert (last.who.split("@")[0], last.why) == ("ada", "losses")


def test_deploy_says_why_it_took_a_version_back_and_exits_with_1(
    atlas: Callable[..., Any], desk: Desk
) -> None:
    code, out, _ = atlas("deploy", MODEL, "--version", "1", "--patience", "0")
    assert code == 1
    assert out.endswith(
        f"{MODEL}/1 was taken back. As a shadow: No worker serves it. Start one with `make up` "
        "or `atlas worker`."
    )


def test_a_rejected_version_is_refused_in_one_sentence(
    atlas: Callable[..., Any], desk: Desk
) -> None:
    code, out, err = atlas("deploy", MODEL, "--version", "9")
    assert (code, out) == (2, "")
    assert err.startswith("DeploymentRefused: Expected a version of direction_ohlcv_1m that passed")


def test_rollback_without_a_former_version_is_refused(
    atlas: Callable[..., Any], desk: Desk
) -> None:
    code, _, err = atlas("rollback", MODEL)
    assert code == 2
    assert "there is none. Use `atlas halt`" in err


def test_deployments_lists_stages_and_moves(atlas: Callable[..., Any], desk: Desk) -> None:
    desk.stage_shadow(MODEL, 2, why="try it")
    desk.observe(MODEL, 9)
    code, out, _ = atlas("deployments")
    assert code == 0
    assert f"{MODEL} 9 rejected, observed rejected 6" in out
    assert f"{MODEL} 2 shadow passed 5" in out
    _, moves, _ = atlas("deployments", MODEL, "--history")
    assert re.search(r"5 2 stage gated → shadow ada try it", moves)


def test_deployments_of_a_fresh_installation_is_an_empty_table(atlas: Callable[..., Any]) -> None:
    code, out, _ = atlas("deployments")
    assert (code, out) == (0, "model version stage gates generation blob report")


def signal(event_us: int, stage: Stage = Stage.SHADOW, side: int = 1) -> Signal:
    return Signal(MODEL, 3, stage, "BTC_USDT", event_us, 0.61234, side, side != 0, "abc", 7)


def test_signals_shows_the_newest_of_the_stage_asked_for(
    atlas: Callable[..., Any], redis: Redis
) -> None:
    start = 1_619_740_800_000_000
    publish(redis, [signal(start + i * 60_000_000, side=-1) for i in range(3)])
    publish(redis, [signal(start, Stage.REJECTED, 0)])
    code, out, _ = atlas("signals", "--stage", "shadow", "-n", "2")
    row = f"BTC_USDT {MODEL}/3 0.6123 down yes"
    assert (code, out) == (
        0,
        "time (UTC) symbol model/version score side decides "
        f"2021-04-30 00:01:00 {row} 2021-04-30 00:02:00 {row}",
    )
    assert "none" in atlas("signals", "--stage", "rejected")[1]


def test_signals_exits_with_1_where_there_are_none(atlas: Callable[..., Any], redis: Redis) -> None:
    assert atlas("signals") == (1, "No live signals yet.", "")


def test_signals_of_a_stage_that_has_none_is_a_usage_error(atlas: Callable[..., Any]) -> None:
    code, _, err = atlas("signals", "--stage", "gated")
    assert code == 2
    assert "'gated' is none of live, canary, shadow, rejected" in err


def test_following_shows_what_comes_until_interrupted(
    atlas: Callable[..., Any], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(redis, [signal(1)])
    real, reads = bus.read_signals, []

    def read(*arguments: Any, **options: Any) -> Any:
        reads.append(options["after"])
        if len(reads) == 1:
            publish(redis, [signal(60_000_001)])
        if len(reads) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **{**options, "wait_ms": 50})

    monkeypatch.setattr(bus, "read_signals", read)
    code, out, _ = atlas("signals", "--stage", "shadow", "--follow")
    assert code == 130
    assert re.findall(r"1970-01-01 00:0\d:00", out) == [
        "1970-01-01 00:00:00",
        "1970-01-01 00:01:00",
    ]


def test_a_redis_that_is_away_is_one_sentence(
    atlas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATLAS_REDIS_PORT", "1")
    code, out, err = atlas("signals")
    assert (code, out) == (2, "")
    assert err.startswith("StoreUnavailable: Expected Redis at 127.0.0.1:1; found:")


def test_the_log_is_made_where_the_settings_say(atlas: Callable[..., Any], url: str) -> None:
    atlas("deployments")
    assert DeploymentLog(url).models() == ()
