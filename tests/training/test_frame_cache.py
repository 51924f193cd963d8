"""A frame comes back from its cache as it was, or not at all."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from labelled_market import bars, candidate, frame

from atlas.training import Candidate, FrameCache, frame_key, label_events

LOOKING_BACK = candidate(engine="momentum_engine:Momentum")


@pytest.mark.parametrize("wanted", [candidate(), LOOKING_BACK], ids=["row", "window"])
def test_a_frame_comes_back_whole(wanted: Candidate, tmp_path: Path) -> None:
    cache, kept = FrameCache(tmp_path), frame(wanted=wanted)
    assert cache.get("a") is None
    cache.put("a", kept)
    found = cache.get("a")
    assert found is not None
    assert found.digest == kept.digest
    assert found.rows.equals(kept.rows)
    assert (found.history is None) == (wanted is not LOOKING_BACK)
    assert (found.features, found.unusable, found.tally) == (
        kept.features,
        kept.unusable,
        kept.tally,
    )


def test_a_damaged_frame_is_none(tmp_path: Path) -> None:
    cache, kept = FrameCache(tmp_path), frame()
    cache.put("a", kept)
    kept.rows.with_columns(pl.col("ret") * 2).write_parquet(tmp_path / "a" / "rows.parquet")
    assert cache.get("a") is None
    (tmp_path / "a" / "rows.parquet").write_bytes(b"PAR1")
    assert cache.get("a") is None


def test_the_frames_not_used_for_longest_go(tmp_path: Path) -> None:
    cache, small = FrameCache(tmp_path), replace(frame(), rows=frame().rows.head(10))
    for number in range(10):
        cache.put(f"{number:02d}", small)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n:02d}" for n in range(2, 10)]


def test_the_key_follows_everything_that_a_frame_is_made_of() -> None:
    wanted = candidate()
    events = label_events(bars(), wanted.features.interval, wanted.target)
    moments = bars().select("symbol", "event_timestamp")
    first = frame_key(wanted, events, None, stored="1")
    assert frame_key(wanted, events.clone(), None, stored="1") == first
    others = {
        frame_key(wanted, events.with_columns(pl.col("ret") * 2), None, stored="1"),
        frame_key(wanted, events, None, stored="2"),
        frame_key(wanted, events, moments, stored="1"),
        frame_key(candidate("lunar_1m"), events, None, stored="1"),
    }
    assert len(others | {first}) == 5
