"""Figures shown beside the verdicts: they explain, and decide nothing."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec

import numpy as np

from atlas.errors import AtlasError
from atlas.gates.drawdown import breach, stressed, stressed_breach
from atlas.gates.evidence import Evidence, FloatArray
from atlas.gates.policy import GatePolicy
from atlas.gates.verdict import plain
from atlas.gates.walk_forward import stitched_t
from atlas.gates.win_rate import break_even_win_rate
from atlas.stats import (
    automatic_block,
    clopper_pearson,
    deflated_sharpe,
    max_drawdown,
    overfitting_study,
    probabilistic_sharpe,
    sharpe_ratio,
    skew_and_kurtosis,
)

__all__ = ["Context", "context"]

Given = ParamSpec("Given")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a reader should know before believing a verdict; NaN where it cannot be told."""

    loss_probability: float
    """Share of overfitting splits whose winner loses out of sample: low ranks are not profits."""
    overfitting_by_blocks: dict[int, float]
    """The overfitting probability at other numbers of blocks."""
    mean_trial_correlation: float
    """Near clones force the winner in sample to lose out of sample, skilled or not."""
    effective_trials: float
    """Independent trials that the correlated ones amount to."""
    out_of_sample_t: float
    """t-statistic of the windows out of sample, stitched."""
    probabilistic_sharpe: float
    """Confidence that the true Sharpe ratio is above 0."""
    deflated_sharpe: float
    """Confidence that it is above that of the best of as many coins as effective trials."""
    max_drawdown: float
    """Deepest drawdown of the record itself."""
    max_drawdown_stressed: float
    """The same with the record's worst loss made worse by the policy's stress."""
    mean_block: float
    """Mean block of the drawdown paths, in periods."""
    breach_independent: float
    """Breach probability with periods drawn one by one: too low where volatility clusters."""
    breach_stressed: float
    """Breach probability on the same stressed record."""
    win_rate_lower: float
    """One-sided 95 % lower bound."""
    break_even_win_rate: float
    """Win rate at which trades of these mean sizes earn nothing."""
    accuracy_lower: float
    """One-sided 95 % lower bound."""

    def as_dict(self) -> dict[str, Any]:
        """Return the figures in JSON's types; what cannot be told is null."""
        names = [name for name in self.__slots__ if name != "overfitting_by_blocks"]
        figures: dict[str, Any] = {name: plain(getattr(self, name)) for name in names}
        figures["overfitting_by_blocks"] = {
            str(blocks): plain(value) for blocks, value in self.overfitting_by_blocks.items()
        }
        return figures

    def table(self) -> list[tuple[str, str]]:
        """Return the figures as rows of text, in words, with the heading first."""
        blocks = [
            (f"probability of overfitting, {blocks} blocks", _share(value))
            for blocks, value in sorted(self.overfitting_by_blocks.items())
        ]
        return [
            ("beside the verdicts", "figure"),
            ("probability that the winner loses out of sample", _share(self.loss_probability)),
            *blocks,
            ("mean correlation of two trials", _figure(self.mean_trial_correlation)),
            ("independent trials that they amount to", _figure(self.effective_trials)),
            ("t-statistic of the stitched windows", _figure(self.out_of_sample_t)),
            ("confidence that the true Sharpe ratio is above 0", _share(self.probabilistic_sharpe)),
            ("the same, deflated for the effective trials", _share(self.deflated_sharpe)),
            ("deepest drawdown of the record", _share(self.max_drawdown)),
            ("the same, its worst loss stressed", _share(self.max_drawdown_stressed)),
            ("mean block of the drawdown paths, periods", _figure(self.mean_block)),
            ("breach probability, independent draws", _share(self.breach_independent)),
            ("breach probability, worst loss stressed", _share(self.breach_stressed)),
            ("win rate, 95 % lower bound", _share(self.win_rate_lower)),
            (
                "win rate at which trades of these sizes break even",
                _share(self.break_even_win_rate),
            ),
            ("accuracy, 95 % lower bound", _share(self.accuracy_lower)),
        ]


def context(evidence: Evidence, policy: GatePolicy) -> Context:
    """Measure everything that can be measured on this evidence."""
    returns = evidence.selected_returns
    trials = evidence.traded_returns
    correlation = _told(_mean_correlation, trials)
    effective = _effective(trials.shape[1], correlation)
    studies = {
        blocks: _study(trials, blocks)
        for blocks in dict.fromkeys((*policy.block_sensitivity, policy.n_blocks))
    }
    return Context(
        loss_probability=studies[policy.n_blocks][1],
        overfitting_by_blocks={blocks: study[0] for blocks, study in studies.items()},
        mean_trial_correlation=correlation,
        effective_trials=effective,
        out_of_sample_t=_told(stitched_t, evidence),
        probabilistic_sharpe=_told(_confidence, returns),
        deflated_sharpe=_told(_deflated, returns, trials, effective),
        max_drawdown=_told(max_drawdown, returns),
        max_drawdown_stressed=_told(_stressed_drawdown, returns, policy),
        mean_block=_told(automatic_block, returns),
        breach_independent=_told(_breach_independent, evidence, policy),
        breach_stressed=_told(stressed_breach, evidence, policy),
        win_rate_lower=_told(_lower, evidence, "trade_returns"),
        break_even_win_rate=_told(break_even_win_rate, evidence),
        accuracy_lower=_told(_lower, evidence, "hits"),
    )


def _share(value: float) -> str:
    return f"{100 * value:.2f} %" if math.isfinite(value) else "cannot be told"


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "cannot be told"


def _told(figure: Callable[Given, float], *args: Given.args, **kwargs: Given.kwargs) -> float:
    """Return the figure, or NaN where the evidence is too poor for it: the gates say why."""
    try:
        return figure(*args, **kwargs)
    except AtlasError:
        return math.nan


def _study(trials: FloatArray, n_blocks: int) -> tuple[float, float]:
    try:
        study = overfitting_study(trials, n_blocks=n_blocks)
    except AtlasError:
        return math.nan, math.nan
    return study.probability, study.loss_probability


def _stressed_drawdown(returns: FloatArray, policy: GatePolicy) -> float:
    return max_drawdown(stressed(returns, policy))


def _breach_independent(evidence: Evidence, policy: GatePolicy) -> float:
    return breach(evidence, policy, mean_block=1)[0]


def _confidence(returns: FloatArray) -> float:
    skew, kurtosis = skew_and_kurtosis(returns)
    return probabilistic_sharpe(sharpe_ratio(returns), n=returns.size, skew=skew, kurtosis=kurtosis)


def _deflated(returns: FloatArray, trials: FloatArray, n_trials: float) -> float:
    skew, kurtosis = skew_and_kurtosis(returns)
    ratios = [sharpe_ratio(trial) for trial in trials.T]
    return deflated_sharpe(
        sharpe_ratio(returns),
        n=returns.size,
        skew=skew,
        kurtosis=kurtosis,
        n_trials=n_trials,
        trial_variance=float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0,
    )


def _lower(evidence: Evidence, name: str) -> float:
    evidence.finite(name)
    values = getattr(evidence, name)
    return clopper_pearson(int(np.count_nonzero(values > 0)), values.size, side="lower")


def _mean_correlation(trials: FloatArray) -> float:
    """Return the mean correlation between two trials, without the matrix of all pairs."""
    n_rows, n_trials = trials.shape
    if n_trials < 2:
        return math.nan
    together = np.zeros(n_rows)
    for trial in trials.T:
        centred = trial - trial.mean()
        # In units of the largest, so that no square overflows or vanishes.
        centred /= np.abs(centred).max()
        together += centred / math.sqrt(float(np.square(centred).sum()))
    # |sum of unit vectors|^2 counts each trial with itself once and each pair twice.
    return float((np.square(together).sum() - n_trials) / (n_trials * (n_trials - 1)))


def _effective(n_trials: int, correlation: float) -> float:
    """Interpolate between one trial and all of them (Bailey, López de Prado 2014, appendix 3)."""
    shared = min(1.0, max(0.0, correlation))
    return shared + (1 - shared) * n_trials
