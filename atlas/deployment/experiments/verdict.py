"""Whether a challenger earns more than the live version: an experiment's plan and its verdict.

Both are pure. A plan fixes beforehand how long to look and how often it may be wrong; a verdict
follows from the plan and the record so far, however often it is asked for.

A false alarm is a winner named between two versions that earn the same. The plan's error is the
chance of one in the whole experiment, and is split between the two ways to name one: a fifth goes
to the always-valid test, which may stop at any look, and three fifths to the test at the planned
end. The sum holds whatever the two have in common (Bonferroni). A fifth is kept in reserve, as both
tests are asymptotic, and name a winner a little too often when returns depend on each other.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from atlas.deployment.experiments.arms import Arms, long_run_variance
from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import (
    always_valid_p,
    max_drawdown,
    sharpe_difference,
    sharpe_difference_bootstrap,
)

__all__ = ["LEAST_PERIODS", "Figures", "Finding", "Mode", "Plan", "Verdict", "design", "judge"]

EARLY_SHARE = 0.2
"""Of the error, for stopping before the planned end."""

FINAL_SHARE = 0.6
"""Of the error, for the test at the planned end."""

LEAST_PERIODS = 504
"""Three weeks of hours: on less, tests of dependent returns are not to be trusted."""

# The final test's blocks are long, so that it holds its level under dependence; on planned records
# it then rejects about half as often as its level says. The plan pays for that.
_FINAL_STRICTNESS = 2.0
_RESAMPLES = 999


class Mode(StrEnum):
    """How the two versions are compared."""

    PAIRED = "paired"
    """The challenger is the shadow; both speak of the same rows."""
    SPLIT = "split"
    """The challenger is the canary; each trades its own units of traffic."""


class Finding(StrEnum):
    """What an experiment has found."""

    UNDECIDED = "undecided"
    """It goes on."""
    CHALLENGER = "challenger"
    CHAMPION = "champion"
    INCONCLUSIVE = "inconclusive"
    """The planned end came, and no difference was shown: nothing is moved."""
    BREACHED = "breached"
    """The challenger lost more than it may; it is stopped at once."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was fixed before the first look."""

    mode: Mode
    effect: float
    """Difference of the mean net returns of a period that is worth finding."""
    variance: float
    """Long-run variance of the difference in a period, of the pilot."""
    periods: int
    """Planned size: the final test is made on the first so many."""
    min_periods: int
    """No winner is named on fewer."""
    error: float
    """Chance of a winner where there is none, in the whole experiment."""
    power: float
    """Chance of finding the effect, by the planned end."""
    max_drawdown: float
    """Of the challenger; deeper stops it at once."""
    share: float = 1.0
    """Of the traffic, for the challenger of a split."""

    @property
    def early_error(self) -> float:
        """Chance of a false alarm before the planned end."""
        return self.error * EARLY_SHARE

    @property
    def final_error(self) -> float:
        """Chance of a false alarm at the planned end."""
        return self.error * FINAL_SHARE

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return asdict(self)

    @staticmethod
    def of(fields: dict[str, Any]) -> Plan:
        """Rebuild from `as_dict`."""
        return Plan(**{**fields, "mode": Mode(fields["mode"])})


@dataclass(frozen=True, slots=True)
class Figures:
    """What a verdict rests on; None is not known yet."""

    periods: int
    champion_mean: float | None = None
    challenger_mean: float | None = None
    difference: float | None = None
    """Challenger's mean less champion's."""
    error: float | None = None
    """Standard error of the difference, paying for dependence."""
    early_p: float | None = None
    """Always-valid p of equal means, over all looks until now."""
    sharpe_difference: float | None = None
    """Challenger's less champion's, a period; at the planned end only."""
    final_p: float | None = None
    champion_drawdown: float | None = None
    challenger_drawdown: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an experiment has found so far, and why, in one sentence."""

    finding: Finding
    why: str
    figures: Figures


def design(
    mode: Mode,
    *,
    variance: float,
    effect: float | None = None,
    min_periods: int = 168,
    error: float = 0.05,
    power: float = 0.8,
    max_drawdown: float = 0.10,
    share: float = 1.0,
) -> Plan:
    """Plan how long to look for an effect.

    The size is that of a two-sided test of a mean, with the long-run variance in place of the
    variance.

    Parameters
    ----------
    variance : float
        Long-run variance of the difference in one period, from a pilot.
    effect : float or None
        Difference of means worth finding; None takes a tenth of the pilot's deviation.

    Raises
    ------
    InvalidInput
        If an argument is out of its range.
    """
    _check("variance", variance, 0.0, math.inf)
    _check("error", error, 0.0, 0.5)
    _check("power", power, error, 1.0)
    _check("max_drawdown", max_drawdown, 0.0, 1.0)
    _check("share", share, 0.0, 1.0 if mode is Mode.SPLIT else math.inf)
    wanted = 0.1 * math.sqrt(variance) if effect is None else effect
    _check("effect", wanted, 0.0, math.inf)
    level = error * FINAL_SHARE / _FINAL_STRICTNESS
    z = float(ndtri(1 - level / 2) + ndtri(power))
    size = math.ceil(z**2 * variance / wanted**2)
    return Plan(
        mode=mode,
        effect=wanted,
        variance=variance,
        periods=max(size, min_periods, LEAST_PERIODS),
        min_periods=min_periods,
        error=error,
        power=power,
        max_drawdown=max_drawdown,
        share=share,
    )


def judge(plan: Plan, arms: Arms, *, seed: int = 0) -> Verdict:
    """Say what the record so far shows, under the plan.

    May be called after every period: the always-valid p counts all looks. Periods after the planned
    end are not looked at, save for the drawdown.

    Parameters
    ----------
    seed : int
        Of the final test's resamples; the same record gives the same verdict.
    """
    figures = _figures(plan, arms, seed)
    finding, why = _find(plan, figures)
    return Verdict(finding, why, figures)


def _find(plan: Plan, found: Figures) -> tuple[Finding, str]:
    seen = f"{found.periods} of {plan.periods} planned periods"
    drawdown = found.challenger_drawdown
    if drawdown is not None and not drawdown <= plan.max_drawdown:  # NaN fails
        return Finding.BREACHED, (
            f"The challenger fell {drawdown:.1%} below its peak; at most {plan.max_drawdown:.1%} "
            "may be lost."
        )
    if found.periods < plan.min_periods or found.difference is None:
        return Finding.UNDECIDED, f"{seen}; no winner is named before {plan.min_periods}."
    better = Finding.CHALLENGER if found.difference > 0 else Finding.CHAMPION
    if found.early_p is not None and found.early_p <= plan.early_error:
        return better, (
            f"The {better} earns {abs(found.difference):.2e} a period more after {seen}; always-"
            f"valid p {found.early_p:.2g}, at most {plan.early_error:g} stops early."
        )
    if found.periods < plan.periods:
        return Finding.UNDECIDED, f"{seen}; always-valid p {_p(found.early_p)}."
    if found.sharpe_difference is None or found.final_p is None:
        return Finding.INCONCLUSIVE, f"After {seen} the Sharpe ratios cannot be compared."
    if found.final_p <= plan.final_error:
        better = Finding.CHALLENGER if found.sharpe_difference > 0 else Finding.CHAMPION
        return better, (
            f"The {better}'s Sharpe ratio is {abs(found.sharpe_difference):.3f} a period higher "
            f"after {seen}; p {found.final_p:.2g}, at most {plan.final_error:g}."
        )
    return Finding.INCONCLUSIVE, (
        f"No difference was shown in {seen}: Sharpe ratios differ by "
        f"{found.sharpe_difference:+.3f} a period, p {found.final_p:.2g}. Nothing is moved."
    )


def _figures(plan: Plan, arms: Arms, seed: int) -> Figures:
    if not arms.challenger.size:
        return Figures(0)
    champion, challenger = arms.champion[: plan.periods], arms.challenger[: plan.periods]
    difference = challenger - champion
    sharpe, final_p = _final(plan, challenger, champion, seed)
    # Three, so that a first-order autoregression can be seen at all.
    known = difference.size > 2 and np.ptp(difference) > 0
    variance = long_run_variance(difference) if known else math.nan
    return Figures(
        periods=difference.size,
        champion_mean=float(champion.mean()),
        challenger_mean=float(challenger.mean()),
        difference=float(difference.mean()),
        error=math.sqrt(variance / difference.size) if known else None,
        early_p=float(always_valid_p(difference, tau=plan.effect)[-1]),
        sharpe_difference=sharpe,
        final_p=final_p,
        champion_drawdown=max_drawdown(arms.champion),
        challenger_drawdown=max_drawdown(arms.challenger),
    )


def _final(
    plan: Plan, challenger: NDArray[np.float64], champion: NDArray[np.float64], seed: int
) -> tuple[float | None, float | None]:
    """Return the difference of the Sharpe ratios and its p at the planned end, else nothing.

    Ledoit and Wolf's two forms must agree, and the larger p counts: the asymptotic one names
    winners too often under dependence, and the bootstrap is asked only where that one has spoken.
    """
    n = challenger.size
    if n < plan.periods:
        return None, None
    try:
        difference, p = sharpe_difference(challenger, champion)
        if p <= plan.final_error:
            _, redrawn = sharpe_difference_bootstrap(
                challenger, champion, mean_block=math.sqrt(n), n_resamples=_RESAMPLES, seed=seed
            )
            p = max(p, redrawn)
    except (InvalidInput, NotEnoughData):  # an arm stood still, or the two are one
        return None, None
    return difference, p


def _check(name: str, value: float, above: float, below: float) -> None:
    if not above < value <= below or not math.isfinite(value):
        raise InvalidInput(
            f"{name}: expected a number above {above:g}{_upto(below)}, found {value!r}."
        )


def _upto(below: float) -> str:
    return f" and at most {below:g}" if math.isfinite(below) else ""


def _p(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"
