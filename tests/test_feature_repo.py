"""The feature repository under the plain `feast` command, on the real engines."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client
from feast import FeatureStore
from feast.cli.cli import cli
from redis import Redis
from sqlalchemy import create_engine, make_url

from atlas.bus import set_replay
from atlas.clickhouse import create_feature_table, insert_once
from atlas.clock import ReplayState, to_micros
from atlas.features import feature_set, stored_views
from atlas.offline.state_folder import StateFolder, offer_state_folder
from atlas.online import compile_plan

ROOT = Path(__file__).parents[1]
VIEW = feature_set("ohlcv_1m")
# Years before the wall's now.
OPEN = datetime(2021, 5, 1, tzinfo=UTC)
Feast = Callable[..., str]


@pytest.fixture
def stack(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    clickhouse_port: int,
    redis_port: int,
    redis: Redis,
    clickhouse: Client,
    database: str,
) -> None:
    """Settings of a stack of its own: feature tables, two symbols of ten minutes, no registry."""
    for name, value in {
        "ATLAS_HOME": tmp_path / "state",
        "ATLAS_CLICKHOUSE_PORT": clickhouse_port,
        "ATLAS_CLICKHOUSE_DATABASE": database,
        "ATLAS_REDIS_PORT": redis_port,
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(ROOT)
    for features in stored_views():
        create_feature_table(clickhouse, features.view, features.kinds)
    add_rows(clickhouse, minutes=range(10))


def add_rows(clickhouse: Client, minutes: range) -> None:
    rows = pl.DataFrame(
        [
            {
                "symbol": symbol,
                "event_timestamp": OPEN + timedelta(minutes=minute),
                "known_at": OPEN + timedelta(minutes=minute, seconds=1),
                **{name: (at == 1) + minute / 100 for at, name in enumerate(VIEW.features)},
            }
            for symbol in ("BTC_USDT", "ETH_USDT")
            for minute in minutes
        ]
    )
    insert_once(clickhouse, VIEW.view, rows.to_arrow())


@pytest.fixture
def feast(stack: None, monkeypatch: pytest.MonkeyPatch) -> Feast:
    """Run a feast command from the project's folder, as in a terminal but in this process."""

    def run(*arguments: str) -> str:
        monkeypatch.chdir(ROOT)
        done = CliRunner().invoke(cli, ["-c", "feature_repo", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        monkeypatch.chdir(ROOT)
        return done.output

    return run


def served(redis: Redis, minute: int) -> list[float | None]:
    """Return the second feature of both symbols, as served when the market stands there."""
    at = to_micros(OPEN + timedelta(minutes=minute))
    set_replay(redis, ReplayState(at, 0, 1.0, at))
    store = FeatureStore("feature_repo")
    found: list[float | None] = store.get_online_features(
        [f"{VIEW.view}:{VIEW.features[1]}"], [{"symbol": "BTC_USDT"}, {"symbol": "ETH_USDT"}]
    ).to_dict()[VIEW.features[1]]
    return found


def test_apply_registers_a_view_and_a_service_of_every_view_of_atlas(feast: Feast) -> None:
    feast("apply")
    store = FeatureStore("feature_repo")
    plans = {
        features.view: compile_plan(store, f"direction_{features.view}")
        for features in stored_views()
    }
    assert {
        view: (plan.project, plan.features, timedelta(microseconds=plan.ttl_us))
        for view, plan in plans.items()
    } == {features.view: ("atlas", features.features, features.ttl) for features in stored_views()}


def test_applying_twice_changes_nothing(feast: Feast) -> None:
    feast("apply")
    before = {
        view.name: view.to_proto() for view in FeatureStore("feature_repo").list_feature_views()
    }
    feast("apply")
    after = FeatureStore("feature_repo").list_feature_views()
    assert {view.name: view.to_proto().spec for view in after} == {
        name: proto.spec for name, proto in before.items()
    }


def test_views_are_listed(feast: Feast) -> None:
    feast("apply")
    listed = feast("feature-views", "list")
    assert [features.view for features in stored_views() if features.view not in listed] == []


def test_materialize_serves_the_latest_rows_of_the_window(feast: Feast, redis: Redis) -> None:
    feast("apply")
    feast("materialize", "2021-05-01T00:02:00Z", "2021-05-01T00:04:30+00:00", "-v", VIEW.view)
    assert served(redis, minute=5) == [1.04, 1.04]


def test_materialize_incremental_serves_history_though_the_wall_is_years_ahead(
    feast: Feast, redis: Redis, clickhouse: Client
) -> None:
    feast("apply")
    feast("materialize-incremental", datetime.now(UTC).isoformat())
    first = served(redis, minute=10)
    # The replay goes on behind the watermark that the wall has set.
    add_rows(clickhouse, minutes=range(10, 12))
    feast("materialize-incremental", datetime.now(UTC).isoformat())
    assert (first, served(redis, minute=12)) == ([1.09, 1.09], [1.11, 1.11])


def test_materialising_again_changes_nothing(feast: Feast, redis: Redis) -> None:
    feast("apply")
    window = ("2021-05-01T00:00:00", "2021-05-01T00:05:00", "-v", VIEW.view)
    feast("materialize", *window)
    before = {key: redis.hgetall(key) for key in redis.scan_iter(_type="hash")}
    feast("materialize", *window)
    assert {key: redis.hgetall(key) for key in redis.scan_iter(_type="hash")} == before


def test_a_missing_table_is_one_clear_sentence(feast: Feast, clickhouse: Client) -> None:
    clickhouse.command("DROP TABLE lunar_1m SYNC")
    with pytest.raises(Exception, match="Expected table lunar_1m in ClickHouse database"):
        feast("apply")


@pytest.mark.parametrize("where", [".", "feature_repo"])
def test_the_registry_lies_in_the_state_folder_from_wherever_one_asks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "feature_store.yaml").touch()
    monkeypatch.chdir(tmp_path / where)
    monkeypatch.delenv("ATLAS_HOME", raising=False)
    offer_state_folder()
    engine = create_engine("sqlite:///registry.db?plugin=atlas_home")
    assert (engine.url.database, (tmp_path / ".atlas").is_dir()) == (
        str(tmp_path / ".atlas" / "registry.db"),
        True,
    )


def test_an_absolute_state_folder_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATLAS_HOME", str(tmp_path / "elsewhere"))
    url = make_url("sqlite:///registry.db")
    found = StateFolder(url, {}).update_url(url).database
    assert found == str(tmp_path / "elsewhere" / "registry.db")


def test_the_command_works_in_a_terminal(stack: None, tmp_path: Path) -> None:
    feast = Path(sys.executable).with_name("feast")
    done = subprocess.run(
        [str(feast), "-c", "feature_repo", "apply"],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, (tmp_path / "state" / "registry.db").exists()) == (0, True), done
