"""The search: the same trials on any number of processes, resumed where it was, and honest."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from labelled_market import bars, candidate, features, frame

from atlas.book import Book
from atlas.errors import InvalidInput, NotEnoughData, TrainingTimeout
from atlas.gates import GatePolicy
from atlas.training import (
    Candidate,
    InProcess,
    Proposal,
    SearchPlan,
    TrainingFrame,
    Trial,
    TrialMemory,
    Walker,
    best_trial,
    label_events,
    lay_folds,
    run_search,
    search_key,
    train,
)


@cache
def small() -> TrainingFrame:
    """Two symbols are enough to search on."""
    whole = frame()
    return replace(whole, rows=whole.rows.filter(pl.col("symbol").is_in(["SIM_A", "SIM_B"])))


def walker_of(wanted: Candidate, rows: TrainingFrame) -> Walker:
    """A walker over the candidate's folds."""
    dataset = rows.dataset()
    folds = lay_folds(dataset.intervals, wanted.search, embargo=wanted.embargo_bars)
    book = Book.of(rows.rows, period=wanted.period, costs=wanted.costs)
    return Walker(dataset, book, folds, wanted.engine)


def told(trials: Sequence[Trial]) -> list[object]:
    """Everything of a trial but what it cost."""
    return [
        (
            trial.number,
            dict(trial.parameters),
            trial.threshold,
            trial.pruned,
            *(part.tolist() for part in trial.selection),
            *(part.tolist() for part in trial.in_sample),
            *(part.tolist() for part in trial.out_of_sample),
            trial.trade_returns.tolist(),
            trial.scores.tolist(),
        )
        for trial in trials
    ]


@pytest.fixture(scope="module")
def searched() -> list[Trial]:
    """A search in this process, with enough folds and trials that some are pruned."""
    wanted = candidate(n_trials=10, n_folds=4, n_selection=2)
    return run_search(wanted, InProcess(walker_of(wanted, small())))


def test_several_processes_walk_the_same_trials(searched: list[Trial]) -> None:
    wanted = candidate(n_trials=10, n_folds=4, n_selection=2)
    assert told(train(wanted, small(), n_processes=2).trials) == told(searched)


def test_a_search_that_was_killed_goes_on_to_the_same_end(
    searched: list[Trial], tmp_path: Path
) -> None:
    wanted = candidate(n_trials=10, n_folds=4, n_selection=2)
    walker = walker_of(wanted, small())
    walked: list[int] = []

    class Killed(Exception):
        """What a kill looks like from inside."""

    def until_the_sixth(proposals: Sequence[Proposal]) -> list[Trial]:
        if proposals[0].number >= 4:
            raise Killed
        return InProcess(walker)(proposals)

    def counted(proposals: Sequence[Proposal]) -> list[Trial]:
        walked.extend(proposal.number for proposal in proposals)
        return InProcess(walker)(proposals)

    memory = TrialMemory(tmp_path / search_key(wanted, small()))
    with pytest.raises(Killed):
        run_search(wanted, until_the_sixth, memory=memory)
    assert told(run_search(wanted, counted, memory=memory)) == told(searched)
    assert walked == [4, 5, 6, 7, 8, 9]


def test_a_damaged_trial_is_walked_again(searched: list[Trial], tmp_path: Path) -> None:
    wanted = candidate(n_trials=2, n_folds=4, n_selection=2)
    walker, memory = walker_of(wanted, small()), TrialMemory(tmp_path)
    whole = run_search(wanted, InProcess(walker), memory=memory)
    path = sorted(tmp_path.glob("trial_*.npz"))[0]
    path.write_bytes(path.read_bytes()[:200])
    assert told(run_search(wanted, InProcess(walker), memory=memory)) == told(whole)
    memory.forget()
    assert list(tmp_path.parent.glob("trial_*")) == []


def test_a_pruned_trial_is_never_chosen_and_is_judged_all_the_same(searched: list[Trial]) -> None:
    pruned = [trial for trial in searched if trial.pruned]
    assert pruned, "the seed prunes one"
    assert not best_trial(searched).pruned
    for trial in pruned:
        assert len(trial.selection) == 1
        assert [part.size for part in trial.out_of_sample] == [
            part.size for part in searched[0].out_of_sample
        ]
        earlier = [t.selection_path[0] for t in searched[: trial.number // 4 * 4] if t.choosable]
        assert trial.selection_path[0] < np.median(earlier)


def test_what_is_judged_has_no_say_in_the_search() -> None:
    """Prices after the selection folds are turned upside down; the same trials are proposed."""
    wanted = candidate(n_trials=6, prune=False)
    rows = small()
    folds = lay_folds(rows.dataset().intervals, wanted.search, embargo=wanted.embargo_bars)
    judged_from = rows.rows["start"].to_numpy()[folds.judged_rows].min()
    late = pl.col("start") >= judged_from
    turned = replace(
        rows,
        rows=rows.rows.with_columns(
            pl.when(late).then(-pl.col(name)).otherwise(pl.col(name)).alias(name)
            for name in ("label", "ret", "forward_return")
        ).with_columns(pl.when(late).then(1e4 / pl.col("close")).otherwise("close").alias("close")),
    )
    before = run_search(wanted, InProcess(walker_of(wanted, rows)))
    after = run_search(wanted, InProcess(walker_of(wanted, turned)))
    assert [dict(t.parameters) for t in after] == [dict(t.parameters) for t in before]
    assert best_trial(after).number == best_trial(before).number
    assert best_trial(after).returns.tolist() != best_trial(before).returns.tolist()


def test_no_label_of_the_selection_reaches_into_what_is_judged() -> None:
    intervals = small().dataset().intervals
    for selection in ("walk_forward", "combinatorial"):
        plan = SearchPlan(n_folds=5, n_selection=2, selection=selection)
        folds = lay_folds(intervals, plan, embargo=60)
        judged_from = intervals[folds.judged_rows, 0].min()
        for fold in folds.selection:
            for block in fold.blocks:
                assert intervals[block, 1].max() < judged_from
                apart = np.setdiff1d(fold.train, block)
                assert len(apart) == len(fold.train)
                inside = (intervals[fold.train, 0] <= intervals[block, 1].max()) & (
                    intervals[fold.train, 1] >= intervals[block, 0].min()
                )
                assert not inside.any()
    assert len(folds.selection) == 15


@pytest.mark.parametrize("changes", [{"sampler": "nsga2"}, {"selection": "combinatorial"}])
def test_other_searches_end_in_a_choice_and_are_reproducible(changes: dict[str, str]) -> None:
    wanted = candidate(n_trials=3, batch=3, **changes)
    first, second = (run_search(wanted, InProcess(walker_of(wanted, small()))) for _ in range(2))
    assert told(first) == told(second)
    best = best_trial(first)
    traded = [t for t in first if t.choosable and t.selection_trades.size]
    winning = [t for t in traded if t.selection_win_rate > GatePolicy().win_rate]
    assert best.number in {t.number for t in (winning or traded)}
    assert all(best.selection_sharpe >= t.selection_sharpe for t in (winning or traded))


def test_a_spent_time_budget_ends_the_search_between_batches() -> None:
    wanted = candidate(n_trials=8, batch=2, time_budget=timedelta(microseconds=1))
    assert len(run_search(wanted, InProcess(walker_of(wanted, small())))) == 2


def test_a_training_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TrainingTimeout, match="TRAINING_JOB_TIMEOUT_HOURS"):
        train(candidate(n_trials=500), small(), n_processes=2, timeout=timedelta(seconds=4))


def test_a_search_in_which_nothing_can_be_fitted_says_why() -> None:
    wanted = candidate()
    events = label_events(bars(), wanted.features.interval, wanted.target)
    one_sided = frame(events=events.with_columns(label=pl.lit(1, pl.Int64)))
    with pytest.raises(NotEnoughData, match="both labels"):
        train(wanted, one_sided)


def test_a_regressor_is_judged_by_its_errors_too() -> None:
    evidence = train(candidate(task="return", n_trials=2), small()).evidence
    assert evidence.forecasts is not None
    assert evidence.targets is not None
    assert evidence.forecasts.shape == evidence.targets.shape == evidence.hits.shape
    assert np.abs(evidence.forecasts).max() < 0.2


@pytest.mark.parametrize(
    "wrong", [{"n_selection": 0}, {"n_selection": 6}, {"n_trials": 0}, {"sampler": "grid"}]
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="found"):
        SearchPlan(**wrong)  # type: ignore[arg-type]


def test_an_engine_of_ones_own_looks_back_on_every_bar_and_is_searched_by_its_own_space() -> None:
    wanted = candidate(engine="momentum_engine:Momentum", n_trials=4)
    trained = train(wanted, frame(wanted=wanted), n_processes=2)
    assert len({trial.parameters["steepness"] for trial in trained.trials}) == 4
    # A window is of the last four bars, not of the last four decisions, half an hour apart.
    last = trained.dataset.windows(4)[np.array([200])][0, :, 0]
    row = frame().rows.row(200, named=True)
    own = features("ohlcv_1m").filter(
        pl.col("symbol") == row["symbol"], pl.col("event_timestamp") <= row["event_timestamp"]
    )
    assert last.tolist() == own["return_1"].tail(4).cast(pl.Float32).to_list()
    assert len(trained.golden_rows[0]) == 4 * len(trained.frame.features)


def told_of(number: int, selection: list[float], trades: list[float], **changes: object) -> Trial:
    """A trial that is only told what it is chosen by."""
    trial = Trial(
        number=number,
        parameters={},
        threshold=0.0,
        selection=(np.array(selection),),
        selection_trades=np.array(trades),
        in_sample=(),
        out_of_sample=(np.zeros(2),),
        trade_returns=np.empty(0),
        scores=np.empty(0),
    )
    return replace(trial, **changes)  # type: ignore[arg-type]


def test_the_choice_wants_trades_that_win_then_trades_then_anything() -> None:
    still = told_of(0, [0.0, 0.0, 0.0], [])
    losing = told_of(1, [-0.01, -0.02, 0.0], [-0.01, -0.02])
    rare = told_of(2, [0.0, 0.30, 0.29], [-0.01, -0.01, 0.60])
    winning = told_of(3, [0.01, 0.02, -0.01], [0.01, 0.02, 0.01, -0.02])
    pruned = told_of(4, [0.1, 0.2, 0.1], [0.1, 0.2], pruned=True)
    failed = told_of(5, [0.1, 0.2, 0.1], [0.1, 0.2], failure="one label only")
    assert rare.selection_sharpe > winning.selection_sharpe
    assert best_trial([still, losing, rare, winning, pruned, failed]) is winning
    assert best_trial([still, losing, rare]) is rare
    assert best_trial([still, losing]) is losing
    assert best_trial([still, pruned, failed]) is still
