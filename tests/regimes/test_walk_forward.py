"""The regime walk: blind to the future, equal to a slow loop, names that stay."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import DAY, HOUR, RECIPE, START, troubled, turns, versions
from regime_oracle import slow_walk

from atlas.engines import JumpModel
from atlas.errors import InvalidInput
from atlas.features import RegimeInput
from atlas.regimes import Checkpoint, refit_before, refits, walk_forward
from atlas.regimes.inputs import matrix, newest


def at(hours: float) -> datetime:
    return START + HOUR * hours


def between(frame: pl.DataFrame, first: datetime, stop: datetime) -> pl.DataFrame:
    return frame.filter(pl.col("event_timestamp").is_between(first, stop, closed="left"))


@pytest.mark.parametrize("seed", range(6))
def test_the_walk_says_what_a_slow_loop_says(seed: int) -> None:
    found, _ = walk_forward(troubled(400, seed=seed), RECIPE)
    expected = slow_walk(troubled(400, seed=seed), RECIPE)
    assert expected[-1][2] is not None
    keys = found.select("event_timestamp", "known_at", "regime", "regime_age").rows()
    assert keys == [(row[0], row[1], row[2], row[5]) for row in expected]
    refit = found["model_version"].str.slice(0, 23).to_list()
    assert refit == [row[6] and f"{row[6]:%Y%m%dT%H%M%S.%fZ}" for row in expected]
    for place, name in ((3, "regime_level"), (4, "regime_gap")):
        wanted = [np.nan if row[place] is None else row[place] for row in expected]
        np.testing.assert_allclose(found[name].fill_null(np.nan), wanted, rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), cut=st.integers(100, 250), other=st.integers(0, 2**16))
def test_bars_after_a_moment_change_nothing_up_to_it(seed: int, cut: int, other: int) -> None:
    moment = at(cut)
    past = troubled(300, seed=seed).filter(pl.col("known_at") <= moment)
    future = troubled(330, seed=other).filter(pl.col("event_timestamp") > moment)
    future = future.with_columns(pl.col("return_24h") * 3)
    until = pl.col("event_timestamp") <= moment
    alone, _ = walk_forward(past, RECIPE)
    followed, _ = walk_forward(pl.concat([past, future]), RECIPE)
    assert alone.height > 50
    assert followed.filter(until).equals(alone.filter(until))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), cut=st.integers(100, 290))
def test_what_became_known_later_changes_no_row_that_was_known_before(seed: int, cut: int) -> None:
    everything, moment = troubled(300, seed=seed), at(cut)
    then, _ = walk_forward(everything.filter(pl.col("known_at") <= moment), RECIPE)
    now, _ = walk_forward(everything, RECIPE)
    known_then = now.filter(pl.col("known_at") <= moment)
    assert known_then.height > 50
    assert known_then.join(then, on=then.columns, how="anti", nulls_equal=True).is_empty()


def test_equal_rows_give_equal_bytes_in_whatever_order_they_come() -> None:
    rows = troubled(300)
    first, made = walk_forward(rows, RECIPE)
    second, again = walk_forward(rows.reverse(), RECIPE)
    assert first.equals(second)
    assert [each.dump() for each in made] == [each.dump() for each in again]
    assert len(made) == 10


def test_the_planted_regimes_are_found_calm_first() -> None:
    rows, _ = walk_forward(versions(400), RECIPE)
    told = rows.with_columns(planted=pl.Series(turns(400), dtype=pl.Int32)).drop_nulls("regime")
    assert told.height == 400 - 71
    assert (told["regime"] == told["planted"]).mean() > 0.95


def test_names_stay_when_a_refit_finds_the_regimes_in_the_other_order() -> None:
    # Calm three quarters of the time, later a quarter: a fresh fit would call the other one 0.
    often = np.arange(240) // 6 % 4 == 3
    rows = versions(480, which=np.concatenate([often, ~often]).astype(int), noise=0.2)
    found, checkpoints = walk_forward(rows, RECIPE)
    last = checkpoints[-1]
    training = between(rows, last.refit_at - RECIPE.window, last.refit_at)
    fresh = JumpModel(2, RECIPE.penalty, n_starts=3).fit(last.scale.apply(matrix(training, RECIPE)))
    assert fresh.centroids_[0, 0] > fresh.centroids_[1, 0]
    volatility = [each.model.centroids_[:, 0] for each in checkpoints]
    assert all(calm < wild for calm, wild in volatility)
    told = found.with_columns(planted=pl.Series(np.r_[often, ~often], dtype=pl.Int32))
    assert (told["regime"] == told["planted"]).drop_nulls().mean() > 0.9


def test_names_go_to_the_nearest_centroids_of_before_as_the_new_scale_sees_them() -> None:
    # In the scales of their own windows (4, 1) looks like the former (10, 1), and (6, 0) like
    # (0, 0); yet in one scale each is nearer to the other.
    recipe = replace(
        RECIPE,
        inputs=(RegimeInput("realised_vol_30"), RegimeInput("return_24h")),
        window=4 * DAY,
        refit_every=4 * DAY,
        penalty=1.0,
    )
    first = refit_before(START, recipe.refit_every) + 4 * DAY - START
    n, change = 300, 96 + first // HOUR - 1
    late, second = np.arange(n) >= change, turns(n, dwell=8) == 1
    blur = np.where(late, np.random.default_rng(0).normal(0, 1.7, n), 0.0)
    rows = versions(n).with_columns(
        realised_vol_30=np.where(late, np.where(second, 6.0, 4.0), second * 10.0) + blur,
        return_24h=np.where(late, ~second, second).astype(float),
    )
    _, checkpoints = walk_forward(rows, recipe)
    raw = [each.model.centroids_ * each.scale.spread + each.scale.mean for each in checkpoints]
    np.testing.assert_allclose(raw[0], [[0, 0], [10, 1]], atol=1e-9)
    np.testing.assert_allclose(raw[1], [[4, 1], [6, 0]], atol=0.7)


def test_the_offline_path_is_never_told() -> None:
    # A short excursion: the offline path knows that it did not last, the online one cannot.
    which = turns(480, dwell=24)
    which[384 + 12 : 384 + 18] ^= 1
    rows = versions(480, which=which, noise=0.9)
    found, checkpoints = walk_forward(rows, RECIPE)
    differ = 0
    for checkpoint in checkpoints:
        stop = checkpoint.refit_at + DAY
        part = between(rows, checkpoint.refit_at, stop)
        scaled = checkpoint.scale.apply(matrix(part, RECIPE))
        told = between(found, checkpoint.refit_at, stop)["regime"].to_list()
        assert told == checkpoint.model.filter(scaled).tolist()
        differ += sum(told != checkpoint.model.predict(scaled))
    assert differ > 10


def test_no_regime_is_told_before_the_first_refit_with_enough_rows() -> None:
    rows, checkpoints = walk_forward(versions(200), RECIPE)
    # 60 rows are known before the third midnight; 71 bars close before it.
    assert checkpoints[0].refit_at == at(72)
    before = rows.filter(pl.col("event_timestamp") < at(72))
    assert before.height == 71
    assert before.null_count().row(0) == (0, 0, 0, 71, 71, 71, 71, 71)
    assert rows.filter(pl.col("event_timestamp") >= at(72))["regime"].null_count() == 0


def test_after_a_long_silence_no_regime_is_told_until_a_window_is_full_and_names_are_kept() -> None:
    rows = versions(700)
    silence = rows.filter(~pl.col("event_timestamp").is_between(at(200), at(400)))
    found, checkpoints = walk_forward(silence, RECIPE)
    resumed = [each for each in checkpoints if each.refit_at > at(300)]
    waiting = between(found, at(401), resumed[0].refit_at)
    assert waiting.height > 24
    assert waiting["regime"].null_count() == waiting.height
    last = [each for each in checkpoints if each.refit_at < at(300)][-1]
    assert (resumed[0].former, resumed[0].carried) == (last.stamp, None)
    first = found.filter(pl.col("event_timestamp") == resumed[0].refit_at)
    assert first["regime_age"].item() == 0


def test_a_row_of_nulls_has_no_regime_and_the_bars_after_it_are_older() -> None:
    rows = versions(200, noise=0.0, which=turns(200, dwell=40))
    hole = pl.col("event_timestamp").is_between(at(170), at(172))
    names = ("realised_vol_30", "return_24h")
    pierced = rows.with_columns(pl.when(~hole).then(pl.col(name)).alias(name) for name in names)
    found, _ = walk_forward(pierced, RECIPE)
    whole, _ = walk_forward(rows, RECIPE)
    silent = found.filter(hole)
    assert silent.null_count().row(0) == (0, 0, 0, 3, 3, 3, 3, 0)
    after = pl.col("event_timestamp") > at(172)
    names_of_both = ["event_timestamp", "regime", "regime_age"]
    assert (
        found.filter(after).select(names_of_both).equals(whole.filter(after).select(names_of_both))
    )


def test_age_counts_bars_since_the_last_change_through_refits() -> None:
    found, _ = walk_forward(versions(400, which=turns(400, dwell=40)), RECIPE)
    told = found.drop_nulls("regime")
    ages, age = [], -1
    for former, regime in zip([None, *told["regime"]], told["regime"], strict=False):
        age = age + 1 if former in (None, regime) else 0
        ages.append(age)
    assert told["regime_age"].to_list() == ages
    assert max(ages) > 24


def test_a_correction_known_after_a_refit_leaves_its_model_and_one_known_before_does_not() -> None:
    rows = versions(240)
    wrong = rows.filter(pl.col("event_timestamp") == at(130))

    def stamps(known_at: datetime) -> dict[datetime, str]:
        amended = wrong.with_columns(
            pl.col("return_24h") + 0.5, known_at=pl.lit(known_at).dt.cast_time_unit("us")
        )
        _, made = walk_forward(pl.concat([rows, amended]), RECIPE)
        return {each.refit_at: each.stamp for each in made}

    _, made = walk_forward(rows, RECIPE)
    plain = {each.refit_at: each.stamp for each in made}
    late = stamps(at(170))
    changed = [moment for moment in plain if late[moment] != plain[moment]]
    assert changed == [at(192), at(216), at(240)]
    assert [m for m, s in stamps(at(143)).items() if s != plain[m]] == [at(144), at(168), *changed]


def test_a_correction_touches_the_rows_from_its_bar_to_the_next_refit() -> None:
    rows = versions(240)
    wrong = rows.filter(pl.col("event_timestamp") == at(130))
    amended = wrong.with_columns(
        pl.col("return_24h") - 0.2, known_at=pl.lit(at(1000)).dt.cast_time_unit("us")
    )
    before, _ = walk_forward(rows, RECIPE)
    after, _ = walk_forward(pl.concat([rows, amended]), RECIPE)
    differ = after.join(before, on=before.columns, how="anti", nulls_equal=True)
    assert differ["event_timestamp"].to_list() == [at(hour) for hour in range(130, 144)]
    assert set(differ["known_at"]) == {at(1000)}


def test_a_bar_that_arrives_late_is_no_part_of_the_fit_but_of_the_filter() -> None:
    rows = versions(240)
    # The last bar before the refit at hour 144 arrives ten minutes after it.
    last = pl.col("event_timestamp") == at(143)
    late = rows.with_columns(
        known_at=pl.when(last)
        .then(at(144) + timedelta(minutes=10))
        .otherwise(pl.col("known_at"))
        .dt.cast_time_unit("us")
    )
    found, checkpoints = walk_forward(late, RECIPE)
    checkpoint = next(each for each in checkpoints if each.refit_at == at(144))
    assert checkpoint.trained_until == at(142)
    followed = rows.filter(pl.col("event_timestamp").is_between(at(143), at(167)))
    states = checkpoint.model.filter(checkpoint.scale.apply(matrix(followed, RECIPE)))
    told = found.filter(pl.col("event_timestamp").is_between(at(144), at(167)))
    assert told["regime"].to_list() == states[1:].tolist()
    assert told["known_at"][0] == at(144) + timedelta(minutes=10)
    assert told["known_at"][1] == at(145)


def test_one_state_has_no_gap() -> None:
    rows, _ = walk_forward(versions(120), replace(RECIPE, n_states=1))
    told = rows.drop_nulls("regime")
    assert set(told["regime"]) == {0}
    assert told["regime_gap"].null_count() == told.height
    assert told["regime_age"].to_list() == list(range(told.height))


def test_a_feature_that_does_not_move_is_no_division_by_zero() -> None:
    rows = versions(120).with_columns(return_24h=pl.lit(0.01))
    found, _ = walk_forward(rows, RECIPE)
    assert found["regime"].null_count() == 71


def test_a_market_without_volatility_has_no_logarithm_and_no_regime() -> None:
    found, checkpoints = walk_forward(versions(120).with_columns(realised_vol_30=0.0), RECIPE)
    assert (found["regime"].null_count(), checkpoints) == (120, [])


def test_refits_lie_on_mondays_whenever_one_begins_to_look() -> None:
    week = timedelta(days=7)
    assert refit_before(START + DAY, week) == START
    assert refit_before(START, week) == START
    late = list(refits(START + timedelta(days=9), START + timedelta(days=22), week))
    assert late == [START + n * week for n in (1, 2, 3)]
    assert {moment.weekday() for moment in late} == {0}
    assert refit_before(datetime(1969, 12, 31, tzinfo=UTC), week) == datetime(
        1969, 12, 29, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"inputs": ()}, "found 0 inputs"),
        ({"window": timedelta(0)}, "0:00:00"),
        ({"refit_every": -DAY}, "-1 day"),
        ({"min_rows": 1}, "min_rows 1"),
        ({"clip": 0.0}, "clip 0.0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(changes: dict, found: str) -> None:
    with pytest.raises(InvalidInput, match=found):
        replace(RECIPE, **changes)


def test_every_part_of_a_recipe_is_in_its_digest() -> None:
    others = [
        replace(RECIPE, inputs=RECIPE.inputs[::-1]),
        replace(RECIPE, n_states=3),
        replace(RECIPE, penalty=5.0),
        replace(RECIPE, clip=4.0),
        replace(RECIPE, window=5 * DAY),
        replace(RECIPE, refit_every=2 * DAY),
        replace(RECIPE, min_rows=61),
        replace(RECIPE, n_starts=4),
        replace(RECIPE, seed=1),
    ]
    assert len({RECIPE.digest, *(each.digest for each in others)}) == 10
    assert replace(RECIPE).digest == RECIPE.digest


def test_a_stream_that_was_put_away_goes_on_to_the_same_regimes() -> None:
    rows = versions(240)
    found, checkpoints = walk_forward(rows, RECIPE)
    kept = Checkpoint.load(checkpoints[-1].dump())
    part = newest(rows).filter(pl.col("event_timestamp") >= kept.refit_at - HOUR)
    stream, told = kept.model.stream(), []
    for row in kept.scale.apply(matrix(part, RECIPE))[1:]:
        stream = kept.model.resume(stream.snapshot())
        told.append(stream.update(row))
    assert told == found.filter(pl.col("event_timestamp") >= kept.refit_at)["regime"].to_list()
