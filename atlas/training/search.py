"""The search for hyperparameters: every trial walks forward, and every trial's returns are kept.

The probability of overfitting is a statement about the whole search, so nothing of it is dropped:
a trial that lost, was pruned, failed, or never traded, stays in the record with its returns.

Trials are proposed in batches, each from what the batches before it found and from a seed of its
own. So a search gives the same trials whether one process walks them or many, and one that was
killed goes on to the same end from the trials that it had kept.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import optuna

from atlas.errors import NotEnoughData
from atlas.gates import GatePolicy
from atlas.training.candidate import Candidate, SearchPlan
from atlas.training.spaces import suggest
from atlas.training.walk import Proposal, Trial

__all__ = ["Evaluate", "Memory", "best_trial", "run_search"]

# Of the trials, the first half is drawn at random: a search that closes in at once leaves near
# clones, among which the best in sample is a matter of luck, and the overfitting gate would say so.
_RANDOM_SHARE = 0.5
_LEAST_BEFORE_PRUNING = 4


class Evaluate(Protocol):
    """Walks a batch of proposals: in this process, in several, or on a cluster."""

    def __call__(self, proposals: Sequence[Proposal]) -> list[Trial]:
        """Return one trial a proposal, in their order."""
        ...


class Memory(Protocol):
    """Keeps finished trials, so that a search that was killed can go on."""

    def recall(self, proposal: Proposal) -> Trial | None:
        """Return the trial of exactly this proposal, if it was kept."""
        ...

    def keep(self, trial: Trial, proposal: Proposal) -> None:
        """Keep a finished trial; all of it or nothing."""
        ...


def run_search(
    candidate: Candidate,
    evaluate: Evaluate,
    *,
    memory: Memory | None = None,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> list[Trial]:
    """Search with Optuna, and return every trial in the order of its proposal.

    Parameters
    ----------
    on_trial : callable
        Told of each finished trial.

    Raises
    ------
    NotEnoughData
        If no trial of the first batch could be fitted, with the reason of the first.
    """
    plan = candidate.search
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = _study(plan)
        trials: list[Trial] = []
        began = time.monotonic()
        while len(trials) < plan.n_trials and not _over(plan, began, trials):
            study.sampler = _sampler(plan, batch=len(trials) // plan.batch)
            asked = [study.ask() for _ in range(min(plan.batch, plan.n_trials - len(trials)))]
            bars = _bars(trials) if plan.prune else ()
            proposals = [Proposal(ask.number, *suggest(ask, candidate), bars) for ask in asked]
            for ask, trial in zip(asked, _walked(proposals, evaluate, memory), strict=True):
                _tell(study, ask, trial, plan)
                trials.append(trial)
                on_trial(trial)
            if not any(trial.choosable for trial in trials):
                raise NotEnoughData(
                    f"Expected a trial of {candidate.engine} that can be fitted; found none in "
                    f"{len(trials)}: {trials[0].failure}"
                )
    finally:
        optuna.logging.set_verbosity(verbosity)
    return trials


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial of the highest Sharpe ratio over the selection folds; the earlier of equals.

    It is sought among those whose trades there won as often as the gates ask, as far as there are
    any: a high ratio may also come of rare large wins. One that did not trade, whose ratio of 0 is
    above every loss, is chosen only where none did: there is nothing to judge it by. On the front
    of `nsga2` it is the end of high Sharpe ratios. The judged folds have no say.
    """
    choosable = [trial for trial in trials if trial.choosable]
    traded = [trial for trial in choosable if trial.selection_trades.size]
    winning = [t for t in traded if t.selection_win_rate > GatePolicy().win_rate]
    return max(winning or traded or choosable, key=lambda trial: trial.selection_sharpe)


def _walked(
    proposals: Sequence[Proposal], evaluate: Evaluate, memory: Memory | None
) -> list[Trial]:
    known = {p.number: memory.recall(p) if memory is not None else None for p in proposals}
    missing = [p for p in proposals if known[p.number] is None]
    fresh = {trial.number: trial for trial in (evaluate(missing) if missing else [])}
    found = []
    for proposal in proposals:
        trial = known[proposal.number] or fresh[proposal.number]
        if memory is not None and proposal.number in fresh:
            memory.keep(trial, proposal)
        found.append(trial)
    return found


def _over(plan: SearchPlan, began: float, trials: Sequence[Trial]) -> bool:
    if plan.time_budget is None or not trials:
        return False
    return time.monotonic() - began >= plan.time_budget.total_seconds()


def _study(plan: SearchPlan) -> optuna.Study:
    if plan.sampler == "nsga2":
        return optuna.create_study(directions=["maximize", "minimize"])
    return optuna.create_study(direction="maximize")


def _sampler(plan: SearchPlan, *, batch: int) -> optuna.samplers.BaseSampler:
    seed = int(np.random.SeedSequence([plan.seed, batch]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if plan.sampler == "nsga2":
            # Three generations at least, each of whole batches.
            population = max(plan.batch, plan.n_trials // 3 // plan.batch * plan.batch)
            return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=round(plan.n_trials * _RANDOM_SHARE)
        )


def _tell(study: optuna.Study, ask: optuna.Trial, trial: Trial, plan: SearchPlan) -> None:
    if trial.failure:
        study.tell(ask, state=optuna.trial.TrialState.FAIL)
        return
    if trial.pruned:
        if plan.sampler == "tpe":
            ask.report(trial.selection_sharpe, step=len(trial.selection))
        study.tell(ask, state=optuna.trial.TrialState.PRUNED)
        return
    values: Any = trial.selection_sharpe
    if plan.sampler == "nsga2":
        values = [trial.selection_sharpe, trial.selection_drawdown]
    study.tell(ask, values)


def _bars(trials: Sequence[Trial]) -> tuple[float, ...]:
    """Return the median Sharpe ratio of earlier trials after each selection fold but the last.

    The median stopping rule of Golovin et al. (2017), "Google Vizier: A Service for Black-Box
    Optimization".
    """
    whole = [trial for trial in trials if trial.choosable]
    if len(whole) < _LEAST_BEFORE_PRUNING:
        return ()
    paths = np.array([trial.selection_path for trial in whole])
    return tuple(float(bar) for bar in np.median(paths[:, :-1], axis=0))
