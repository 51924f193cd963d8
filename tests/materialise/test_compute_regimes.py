"""The regime view in the offline store: as the pure walk says, safe to run twice, reproducible."""

import os
import random
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from clickhouse_connect.driver.client import Client
from regime_market import HOUR, LATER, START, VIEW, amended, rows, store, stored

from atlas.clickhouse import Computed, connect, migrate
from atlas.errors import FeatureRedefined, NotEnoughData
from atlas.materialise import compute_regimes
from atlas.regimes import Checkpoint, blob_of, follow, walk_forward
from atlas.registry import BlobStore


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def names(blobs: BlobStore) -> set[str]:
    return {path.name for path in blobs.home.folder.glob("*/*")}


def test_the_store_has_what_the_walk_over_all_rows_says(
    clickhouse: Client, blobs: BlobStore
) -> None:
    market = [rows(330), rows(250, "ETH_USDT", seed=1)]
    store(clickhouse, market)
    shares: list[float] = []
    done = compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER, on_chunk=shares.append)
    assert done == Computed(computed=580, written=580)
    walks = [walk_forward(part, VIEW.recipe) for part in market]
    assert stored(clickhouse).equals(pl.concat(told for told, _ in walks))
    assert names(blobs) == {blob_of(each.stamp) for _, made in walks for each in made}
    assert shares == sorted(shares)
    assert (len(shares), shares[-1]) == (14 + 11 + 1, 1.0)


def test_a_second_run_writes_nothing_and_fits_nothing(
    clickhouse: Client, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(clickhouse, rows(300))
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    before, kept = stored(clickhouse), names(blobs)
    monkeypatch.delattr("atlas.materialise.regimes.fit")
    again = compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    assert again == Computed(300, 0, 300)
    assert stored(clickhouse).equals(before)
    assert names(blobs) == kept


def test_history_does_not_depend_on_when_it_was_computed(
    clickhouse: Client, blobs: BlobStore
) -> None:
    whole = rows(300)
    done = Computed()
    for first, last in ((1, 40), (41, 95), (96, 96), (97, 250), (251, 300)):
        store(clickhouse, rows(300)[first - 1 : last])
        done += compute_regimes(clickhouse, VIEW, blobs=blobs, until=START + HOUR * last)
    assert done.written == 300
    assert stored(clickhouse).equals(walk_forward(whole, VIEW.recipe)[0])


def test_rows_after_until_are_left_for_later(clickhouse: Client, blobs: BlobStore) -> None:
    store(clickhouse, rows(300))
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=START + 100 * HOUR)
    assert stored(clickhouse).height == 100
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    assert stored(clickhouse).equals(walk_forward(rows(300), VIEW.recipe)[0])


def test_since_and_symbols_limit_what_is_written_and_not_what_it_is(
    clickhouse: Client, blobs: BlobStore
) -> None:
    store(clickhouse, [rows(300), rows(300, "ETH_USDT", seed=1)])
    since = START + 150 * HOUR
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER, since=since, symbols=["ETH_USDT"])
    told, _ = walk_forward(rows(300, "ETH_USDT", seed=1), VIEW.recipe)
    assert stored(clickhouse).equals(told.filter(pl.col("event_timestamp") >= since))
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER, symbols=["ETH_USDT"])
    assert stored(clickhouse).equals(told)


def test_a_correction_adds_versions_of_the_rows_that_it_changes_before_the_next_refit(
    clickhouse: Client, blobs: BlobStore
) -> None:
    original = rows(300)
    store(clickhouse, original)
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    before, kept = stored(clickhouse), names(blobs)
    wrong = original.filter(pl.col("event_timestamp") == START + 200 * HOUR)
    store(clickhouse, amended(wrong, LATER))
    done = compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    after = stored(clickhouse)
    assert after.filter(pl.col("known_at") < LATER).equals(before)
    added = after.filter(pl.col("known_at") >= LATER)
    assert added.height == done.written
    told, _ = walk_forward(pl.concat([original, amended(wrong, LATER)]), VIEW.recipe)
    values = ["event_timestamp", *VIEW.kinds]
    changed = told.join(before, on=values, how="anti", nulls_equal=True)
    assert added.equals(changed)
    assert added["event_timestamp"][0] == START + 200 * HOUR
    assert added["event_timestamp"].max() < START + 216 * HOUR
    assert names(blobs) == kept
    assert compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER).written == 0


def test_a_correction_known_in_time_reaches_the_next_refit_and_no_earlier_row(
    clickhouse: Client, blobs: BlobStore
) -> None:
    original = rows(300)
    known = START + 250.5 * HOUR
    store(clickhouse, original[:250])
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    before = stored(clickhouse)
    wrong = original.filter(pl.col("event_timestamp") == START + 200 * HOUR)
    store(clickhouse, [amended(wrong, known), original[250:]])
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    after = stored(clickhouse)
    told, _ = walk_forward(pl.concat([original, amended(wrong, known)]), VIEW.recipe)
    newest = after.unique(["event_timestamp"], keep="last", maintain_order=True)
    assert newest.drop("known_at").equals(told.drop("known_at"))
    assert after.join(before, on=before.columns, how="semi", nulls_equal=True).equals(before)


def test_anybody_can_make_a_row_again_from_its_stamp(clickhouse: Client, blobs: BlobStore) -> None:
    store(clickhouse, rows(300))
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    row = stored(clickhouse).filter(pl.col("event_timestamp") == START + 205 * HOUR)
    checkpoint = Checkpoint.load(blobs.get(blob_of(row["model_version"].item())))
    again = follow(checkpoint, rows(300), VIEW.recipe, before=START + 206 * HOUR)
    assert again[-1].equals(row)


def test_a_lost_checkpoint_is_made_again_to_the_byte(clickhouse: Client, blobs: BlobStore) -> None:
    store(clickhouse, rows(300))
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    kept = names(blobs)
    for path in list(blobs.home.folder.glob("*/*"))[::2]:
        path.unlink()
    done = compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    assert done == Computed(300, 0, 300)
    assert names(blobs) == kept


ADVICE = "atlas features regime_1h --rebuild"


def test_older_rows_that_come_after_newer_ones_are_refused_with_advice(
    clickhouse: Client, blobs: BlobStore
) -> None:
    original = rows(300)
    hole = pl.col("event_timestamp") == START + 100 * HOUR
    store(clickhouse, original.filter(~hole))
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    before = stored(clickhouse)
    store(clickhouse, original.filter(hole))
    with pytest.raises(FeatureRedefined, match=ADVICE):
        compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    later = stored(clickhouse)
    assert later.filter(pl.col("event_timestamp") > START + 120 * HOUR).equals(
        before.filter(pl.col("event_timestamp") > START + 120 * HOUR)
    )
    clickhouse.command(f"DROP TABLE {VIEW.view}")
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    assert stored(clickhouse).equals(walk_forward(original, VIEW.recipe)[0])


@pytest.mark.parametrize("lost", [False, True])
def test_another_recipe_is_refused_and_nothing_is_mixed(
    clickhouse: Client, blobs: BlobStore, lost: bool
) -> None:
    store(clickhouse, rows(300))
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    before = stored(clickhouse)
    if lost:
        for path in blobs.home.folder.glob("*/*"):
            path.unlink()
    other = replace(VIEW, recipe=replace(VIEW.recipe, penalty=5.0))
    with pytest.raises(FeatureRedefined, match=ADVICE):
        compute_regimes(clickhouse, other, blobs=blobs, until=LATER)
    assert stored(clickhouse).equals(before)


def test_without_rows_of_the_other_view_it_says_what_to_compute_first(
    clickhouse: Client, blobs: BlobStore
) -> None:
    with pytest.raises(NotEnoughData, match="atlas features ohlcv_1h"):
        compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)


def test_a_bar_without_inputs_for_days_is_no_row(clickhouse: Client, blobs: BlobStore) -> None:
    silent = pl.col("event_timestamp").is_between(START + 130 * HOUR, START + 190 * HOUR)
    market = rows(300).filter(~silent)
    store(clickhouse, market)
    compute_regimes(clickhouse, VIEW, blobs=blobs, until=LATER)
    assert stored(clickhouse).equals(walk_forward(market, VIEW.recipe)[0])
    assert stored(clickhouse).height == 300 - 61


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_random_and_run_again_gives_what_a_run_in_peace_gives(
    clickhouse_port: int, tmp_path: Path, kills: int
) -> None:
    chance = random.Random(5)
    program = Path(__file__).parents[1] / "regime_process.py"
    databases = [f"test_{uuid.uuid4().hex[:12]}" for _ in range(3)]
    with (
        connect(port=clickhouse_port) as client,
        subprocess.Popen(
            [sys.executable, str(program), str(clickhouse_port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A forked child has none of its parent's threads, so the parent is to have none.
            env=os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
        ) as process,
    ):

        def compute(database: str, kill_after: object = "never") -> tuple[int, float]:
            process.stdin.write(f"{database} {tmp_path / database} {kill_after}\n")
            process.stdin.flush()
            code, seconds = process.stdout.readline().split()
            return int(code), float(seconds)

        for database in databases:
            migrate(client, database)
            store(client, [rows(400), rows(200, "ETH_USDT", seed=1)])
        compute(databases[0])  # once warm
        code, whole_s = compute(databases[1])
        codes = [compute(databases[2], chance.uniform(0, whole_s))[0] for _ in range(kills)]
        assert (code, compute(databases[2])[0]) == (0, 0)
        found = []
        for database in databases[1:]:
            client.database = database
            found.append((stored(client), names(BlobStore(tmp_path / database))))
        for database in databases:
            client.command(f"DROP DATABASE {database}")
    assert -signal.SIGKILL in codes
    assert set(codes) <= {0, -signal.SIGKILL}
    (peaceful, kept), (harassed, kept_too) = found
    assert harassed.equals(peaceful)
    assert peaceful.height == 600
    # A fit whose rows were not written is made again, to the same bytes.
    assert kept_too == kept
