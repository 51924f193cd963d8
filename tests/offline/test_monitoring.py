"""Feast's monitoring on ClickHouse: the numbers of its own calculator, through its own service."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, FeatureView, RepoConfig
from feast.cli.cli import cli
from feast.monitoring.metrics_calculator import MetricsCalculator
from feast.monitoring.monitoring_service import MonitoringService

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseOfflineStore

DAY = datetime(2021, 1, 1, tzinfo=UTC)
KINDS = [
    ("close", "numeric"),
    ("volume", "numeric"),
    ("flat", "numeric"),
    ("exact", "numeric"),
    ("symbol", "categorical"),
    ("up", "categorical"),
]


@pytest.fixture
def many(prices: FeatureView, clickhouse: Client) -> FeatureView:
    """`prices` with 5,000 rows: nulls, repeated values, a single value, words and booleans."""
    clickhouse.command(
        "ALTER TABLE prices ADD COLUMN flat Int32 DEFAULT 7, ADD COLUMN up Bool DEFAULT close > 0, "
        "ADD COLUMN exact Decimal(18, 4) DEFAULT if(isFinite(close), round(close, 4), 0)"
    )
    clickhouse.command("TRUNCATE TABLE prices")
    clickhouse.command(
        "INSERT INTO prices (symbol, event_timestamp, known_at, close, volume) "
        "SELECT concat('S', toString(number % 13)), toDateTime64('2021-01-01', 6, 'UTC') "
        "+ toIntervalSecond(number) AS at, at, sin(number * number) * 100, "
        "if(number % 3 = 0, NULL, number % 101) FROM numbers(5000)"
    )
    return prices


def metrics(store: FeatureStore, view: FeatureView, end: datetime | None) -> list[dict[str, Any]]:
    return ClickHouseOfflineStore.compute_monitoring_metrics(
        store.config, view.batch_source, KINDS, "event_timestamp", DAY, end
    )


def reference(store: FeatureStore, view: FeatureView, end: datetime) -> list[dict[str, Any]]:
    job = ClickHouseOfflineStore.pull_all_from_table_or_query(
        store.config,
        view.batch_source,
        [],
        [name for name, _ in KINDS],
        "event_timestamp",
        None,
        DAY,
        end,
    )
    found: list[dict[str, Any]] = MetricsCalculator().compute_all(job.to_arrow(), KINDS)
    return found


def test_the_numbers_are_those_of_feasts_own_calculator(
    store: FeatureStore, many: FeatureView
) -> None:
    end = DAY + timedelta(seconds=4_000)
    for found, expected in zip(metrics(store, many, end), reference(store, many, end), strict=True):
        histogram, wanted = found.pop("histogram"), expected.pop("histogram")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if name[0] == "p" and value is not None:
                # Of neighbouring ranks, between which Feast's calculator interpolates.
                assert found[name] == pytest.approx(value, abs=0.2)
            else:
                assert found[name] == (pytest.approx(value) if value is not None else None)
        if found["feature_type"] == "numeric":
            assert histogram["bins"] == pytest.approx(wanted["bins"])
            assert sum(histogram["counts"]) == sum(wanted["counts"])
            assert np.abs(np.subtract(histogram["counts"], wanted["counts"])).max() <= 1
        else:
            ordered = sorted(wanted["values"], key=lambda each: (-each["count"], each["value"]))
            assert histogram["unique_count"] == wanted["unique_count"]
            assert [each["count"] for each in histogram["values"]] == [
                each["count"] for each in ordered
            ]
            assert histogram["other_count"] == wanted["other_count"]


def test_numbers_that_are_not_finite_are_no_values(
    store: FeatureStore, many: FeatureView, clickhouse: Client
) -> None:
    clickhouse.command(
        "INSERT INTO prices (symbol, event_timestamp, known_at, close) VALUES "
        "('X', '2021-02-01', '2021-02-01', inf), ('X', '2021-02-01', '2021-02-01', nan), "
        "('X', '2021-02-01', '2021-02-01', 2)"
    )
    (found, *_) = ClickHouseOfflineStore.compute_monitoring_metrics(
        store.config, many.batch_source, KINDS, "event_timestamp", datetime(2021, 2, 1, tzinfo=UTC)
    )
    told = {name: found[name] for name in ("row_count", "null_count", "mean", "max_val", "stddev")}
    assert told == {"row_count": 3, "null_count": 0, "mean": 2.0, "max_val": 2.0, "stddev": None}


def test_of_no_rows_there_are_no_numbers(store: FeatureStore, many: FeatureView) -> None:
    found = metrics(store, many, DAY - timedelta(days=1))
    assert [(each["row_count"], each["mean"], each["histogram"]) for each in found] == [
        (0, None, None)
    ] * len(KINDS)


def test_the_newest_moment_is_the_last_rows(
    store: FeatureStore, many: FeatureView, clickhouse: Client
) -> None:
    ask = ClickHouseOfflineStore.get_monitoring_max_timestamp
    newest = ask(store.config, many.batch_source, "event_timestamp")
    clickhouse.command("TRUNCATE TABLE prices")
    assert newest == DAY + timedelta(seconds=4_999)
    assert ask(store.config, many.batch_source, "event_timestamp") is None


def test_a_result_takes_the_place_of_the_former(store: FeatureStore) -> None:
    ClickHouseOfflineStore.ensure_monitoring_tables(store.config)
    ClickHouseOfflineStore.ensure_monitoring_tables(store.config)
    row = {
        "project_id": "desk",
        "feature_view_name": "prices",
        "feature_name": "close",
        "metric_date": date(2021, 1, 1),
        "granularity": "daily",
        "data_source_type": "batch",
        "computed_at": DAY,
        "max_event_timestamp": None,
        "is_baseline": True,
        "feature_type": "numeric",
        "row_count": 1,
        "histogram": {"bins": [0.0, 1.0], "counts": [1], "bin_width": 1.0},
    }
    for mean in (1.0, float("nan"), 3.0):
        ClickHouseOfflineStore.save_monitoring_metrics(
            store.config, "feature", [{**row, "mean": mean}]
        )

    def kept(**filters: Any) -> list[tuple[Any, ...]]:
        rows = ClickHouseOfflineStore.query_monitoring_metrics(
            store.config, "desk", "feature", filters, date(2021, 1, 1), date(2021, 1, 1)
        )
        names = ("mean", "is_baseline", "metric_date", "computed_at", "histogram")
        return [tuple(each[name] for name in names) for each in rows]

    told = (3.0, True, "2021-01-01", DAY.isoformat(), row["histogram"])
    assert kept(feature_name="close", granularity=None) == [told]
    ClickHouseOfflineStore.clear_monitoring_baseline(
        store.config, "desk", feature_view_name="other"
    )
    assert kept(is_baseline=True) == [told]
    ClickHouseOfflineStore.clear_monitoring_baseline(
        store.config, "desk", feature_view_name="prices"
    )
    assert kept(is_baseline=True) == []
    assert kept() == [(3.0, False, *told[2:])]
    with pytest.raises(InvalidInput, match="found colour"):
        kept(colour="red")


def test_feasts_service_stores_every_granularity_and_one_baseline(
    store: FeatureStore, many: FeatureView
) -> None:
    service = MonitoringService(store)
    for _ in range(2):
        done = service.auto_compute(project="desk")
    assert done["computed_feature_views"] == 1
    rows = service.get_feature_metrics(project="desk", feature_view_name="prices")
    assert sorted({row["granularity"] for row in rows}) == [
        "baseline",
        "biweekly",
        "daily",
        "monthly",
        "quarterly",
        "weekly",
    ]
    assert len(rows) == 12
    baseline = service.get_baseline(project="desk", feature_view_name="prices")
    assert [(row["feature_name"], row["row_count"]) for row in baseline] == [
        ("close", 5_000),
        ("volume", 5_000),
    ]


def test_a_job_is_kept_through_its_states(store: FeatureStore, many: FeatureView) -> None:
    service = MonitoringService(store)
    (job,) = service.submit_baseline_for_new_features("desk")
    service.execute_job(job)
    kept = service.job_manager.get_job(job, project="desk")
    assert kept is not None
    assert (kept["status"], kept["result_summary"]["status"]) == ("completed", "completed")
    assert service.job_manager.get_job(job, project="other") is None
    assert service.submit_baseline_for_new_features("desk") == []


@pytest.fixture
def repository(repo_config: RepoConfig, many: FeatureView, tmp_path: Path) -> Path:
    """A folder from which Feast's command finds the store."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(
        yaml.safe_dump(
            {
                "project": "desk",
                "provider": "local",
                "registry": {"registry_type": "file", "path": str(tmp_path / "registry.pb")},
                "offline_store": {
                    "type": "atlas.offline.ClickHouseOfflineStore",
                    "host": "127.0.0.1",
                    "port": repo_config.offline_store.port,
                    "database": repo_config.offline_store.database,
                },
                "online_store": {"type": "sqlite", "path": str(tmp_path / "online.db")},
                "entity_key_serialization_version": 3,
                "data_quality_monitoring": {"auto_baseline": True},
            }
        )
    )
    return folder


def test_the_command_monitors_the_views(
    repository: Path, store: FeatureStore, clickhouse: Client
) -> None:
    done = CliRunner().invoke(cli, ["-c", str(repository), "monitor", "run", "-v", "prices"])
    assert done.exit_code == 0, done.output
    found = clickhouse.query(
        "SELECT count() FROM feast_monitoring_feature_metrics FINAL"
    ).result_rows
    assert found == [(12,)]


def test_applying_a_view_computes_its_baseline(repository: Path, clickhouse: Client) -> None:
    (repository / "definitions.py").write_text(
        "from feast import Entity, FeatureView, Field, ValueType\n"
        "from feast.types import Float64\n"
        "from atlas.offline import ClickHouseSource\n"
        "symbol = Entity(name='symbol', value_type=ValueType.STRING)\n"
        "prices = FeatureView(name='fresh', entities=[symbol], online=False,\n"
        "    schema=[Field(name='close', dtype=Float64)],\n"
        "    source=ClickHouseSource(name='fresh', table='prices',\n"
        "        timestamp_field='event_timestamp'))\n"
    )
    feast = Path(sys.executable).with_name("feast")
    # The command ends when its baselines are stored.
    done = subprocess.run([feast, "-c", repository, "apply"], check=True, capture_output=True)
    assert b"Computing baseline" in done.stdout, done
    found = clickhouse.query(
        "SELECT feature_name, row_count FROM feast_monitoring_feature_metrics FINAL "
        "WHERE feature_view_name = 'fresh' AND is_baseline"
    ).result_rows
    assert found == [("close", 5_000)]
