"""The regime view from bars to the online store, by the commands that every view has."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandera.polars as pa
import polars as pl
import pytest
from feast import FeatureStore
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import set_replay
from atlas.cli import main
from atlas.clickhouse import create_feature_table, insert_once
from atlas.clickhouse.quarantine import Border, admit
from atlas.clickhouse.values import frame_of
from atlas.clock import ReplayState, to_micros
from atlas.features import ohlcv, stored_view, stored_views
from atlas.market import interval_of
from atlas.online import OnlineReader, Status, compile_plan
from atlas.regimes import Checkpoint, blob_of, walk_forward
from atlas.runtime.installation import Installation
from flows.features import compute_view

HOUR = timedelta(hours=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
# Two refits: on the first Monday with 720 rows that are warm, and a week later.
BARS = 1_200
END = START + BARS * HOUR
VIEW = stored_view("regime_1h")


class Said(NamedTuple):
    code: int
    out: str
    err: str


def bars() -> pl.DataFrame:
    random = np.random.default_rng(3)
    spread = np.where(np.arange(BARS) // 100 % 3 == 2, 0.02, 0.004)
    close = 100 * np.exp(np.cumsum(spread * random.normal(size=BARS)))
    open_ = np.r_[100.0, close[:-1]]
    times = pl.Series([START + HOUR * (n + 1) for n in range(BARS)]).dt.cast_time_unit("us")
    return pl.DataFrame(
        {
            "symbol": ["BTC_USDT"] * BARS,
            "event_timestamp": times,
            "known_at": times,
            "open": open_,
            "high": np.maximum(open_, close) * 1.001,
            "low": np.minimum(open_, close) * 0.999,
            "close": close,
            "volume": random.exponential(10.0, BARS),
        }
    )


@pytest.fixture
def installation(
    clickhouse_port: int,
    redis_port: int,
    redis: Any,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """This test's installation: 1,200 bars, all tables, and a clock that stands at the last."""
    for name, value in {
        "ATLAS_HOME": tmp_path / "state",
        "ATLAS_CLICKHOUSE_PORT": clickhouse_port,
        "ATLAS_CLICKHOUSE_DATABASE": database,
        "ATLAS_REDIS_PORT": redis_port,
    }.items():
        monkeypatch.setenv(name, str(value))
    made = Installation()
    insert_once(made.clickhouse, "bars_1h", bars().to_arrow())
    for view in stored_views():
        create_feature_table(made.clickhouse, view.view, view.kinds)
    at = to_micros(END)
    set_replay(made.redis, ReplayState(at, 0, 1.0, at))
    yield made
    made.clickhouse.close()


@pytest.fixture
def atlas(
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Said]:
    """Run a command in this process."""

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["atlas", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return Said(end.value.code or 0, said.out, said.err)

    return run


def stored(installation: Installation) -> pl.DataFrame:
    names = ", ".join(("symbol", "event_timestamp", "known_at", *VIEW.kinds))
    return frame_of(
        installation.clickhouse.query_arrow(
            f"SELECT {names} FROM {VIEW.view} ORDER BY symbol, event_timestamp", use_strings=True
        )
    )


def counted(written: int, there: int) -> str:
    return (
        f"regime_1h: 1,200 rows computed, {written:,} written, {there:,} there already, "
        "0 quarantined.\n"
    )


def apply(installation: Installation) -> FeatureStore:
    from feature_repo.definitions import services, symbol, views

    installation.feast.apply([symbol, *views.values(), *services.values()])
    return installation.feast


def read(installation: Installation, plan: Any) -> Any:
    async def once() -> Any:
        client = AsyncRedis(port=installation.settings.redis_port)
        try:
            return await OnlineReader(client, plan).read(["BTC_USDT"], now=END)
        finally:
            await client.aclose()

    return asyncio.run(once())


def test_without_its_inputs_the_command_says_what_comes_first(atlas: Callable[..., Said]) -> None:
    said = atlas("features", "regime_1h")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("NotEnoughData: Expected rows of ohlcv_1h until 2024-02-20")
    assert said.err.endswith("Compute them first: atlas features ohlcv_1h\n")


def test_it_is_computed_like_any_view_and_again_changes_nothing(
    installation: Installation, atlas: Callable[..., Said]
) -> None:
    atlas("features", "ohlcv_1h")
    assert atlas("features", "regime_1h") == (0, counted(1_200, 0), "")
    inputs = ohlcv(interval_of("1h")).compute(bars().lazy()).collect()
    told, checkpoints = walk_forward(inputs, VIEW.recipe)  # type: ignore[attr-defined]
    assert stored(installation).equals(told)
    assert [blob_of(each.stamp) in installation.blobs for each in checkpoints] == [True] * 3
    assert atlas("features", "regime_1h") == (0, counted(0, 1_200), "")
    assert atlas("features", "regime_1h", "--rebuild") == (0, counted(1_200, 0), "")
    assert stored(installation).equals(told)


def test_the_flow_computes_it_and_status_shows_it(
    installation: Installation, atlas: Callable[..., Said]
) -> None:
    for view in ("ohlcv_1h", "regime_1h"):
        assert compute_view.fn(view, END).written == 1_200
    said = atlas("features", "status", "regime_1h", "--hours", "24")
    assert said.code == 0
    assert " 24/24 " in said.out
    assert "regime_1h" in said.out


def test_it_comes_online_with_the_stamp_of_its_model(
    installation: Installation, atlas: Callable[..., Said]
) -> None:
    atlas("features", "ohlcv_1h")
    atlas("features", "regime_1h")
    store = apply(installation)
    assert atlas("materialise", "regime_1h").out.endswith(
        "1 rows landed, 0 unchanged, 0 in quarantine.\n"
    )
    last = stored(installation)[-1]
    plan = compile_plan(store, VIEW.view)
    assert plan == VIEW.plan
    vectors = read(installation, plan)
    assert vectors.event_ts.tolist() == [to_micros(END)]
    assert vectors.values[0, :4].tolist() == list(last.select(VIEW.features).row(0))
    assert vectors.columns["model_version"] == last["model_version"].to_list()
    checkpoint = Checkpoint.load(installation.blobs.get(blob_of(last["model_version"].item())))
    assert checkpoint.refit_at == datetime(2024, 2, 19, tzinfo=UTC)
    feast = store.get_online_features(
        [f"{VIEW.view}:{name}" for name in VIEW.kinds], [{"symbol": "BTC_USDT"}]
    ).to_dict()
    assert [feast[name][0] for name in VIEW.kinds] == list(last.select(list(VIEW.kinds)).row(0))
    assert atlas("materialise", "regime_1h").out.endswith(
        "0 rows landed, 1 unchanged, 0 in quarantine.\n"
    )


def test_a_model_is_given_numbers_alone(installation: Installation) -> None:
    plan = compile_plan(apply(installation), "direction_regime_1h")
    assert plan.features == ("regime", "regime_level", "regime_gap", "regime_age")
    assert plan.features == VIEW.features


def test_feast_joins_it_as_it_was_known(
    installation: Installation, atlas: Callable[..., Said]
) -> None:
    atlas("features", "ohlcv_1h")
    atlas("features", "regime_1h")
    told = stored(installation)[::50]
    keys = told.select("symbol", "event_timestamp").to_pandas()
    store = apply(installation)
    found = store.get_historical_features(
        entity_df=keys,
        features=store.get_feature_service("direction_regime_1h"),
        filter_by_created_timestamp=True,
    ).to_arrow()
    frame = pl.from_arrow(found)
    assert isinstance(frame, pl.DataFrame)
    names = list(VIEW.features)
    assert frame.select(names).equals(told.select(names))
    assert 0 < frame["regime"].null_count() < frame.height


def test_a_row_that_breaks_its_schema_is_kept_out_online(
    installation: Installation, atlas: Callable[..., Said]
) -> None:
    atlas("features", "ohlcv_1h")
    atlas("features", "regime_1h")
    apply(installation)
    broken = stored(installation)[-1].with_columns(
        pl.lit(-1, pl.Int32).alias("regime"), pl.col("known_at") + HOUR
    )
    insert_once(installation.clickhouse, VIEW.view, broken.to_arrow())
    assert atlas("materialise", "regime_1h").out.endswith(
        "0 rows landed, 0 unchanged, 1 in quarantine.\n"
    )
    said = atlas("features", "quarantine", "regime_1h")
    assert "regime is below 0" in " ".join(said.out.split())


def test_a_readmitted_row_is_served_with_its_stamp(
    installation: Installation, atlas: Callable[..., Said]
) -> None:
    atlas("features", "ohlcv_1h")
    atlas("features", "regime_1h")
    last = stored(installation)[-1]
    schema = VIEW.schema.to_schema()
    stricter = schema.update_column("regime_age", checks=[pa.Check.less_than(0)])
    admit(installation.clickhouse, stricter, last, view=VIEW.view, border=Border.ONLINE, run="r")
    assert atlas("features", "quarantine", "--readmit").code == 0
    vectors = read(installation, VIEW.plan)
    assert (vectors.status == Status.PRESENT).all()
    assert vectors.values[0, :4].tolist() == list(last.select(VIEW.features).row(0))
    assert vectors.columns["model_version"] == last["model_version"].to_list()
