"""How often an experiment names a winner where there is none, and finds one where there is.

`python -m bench.experiment_power` plays experiments between simulated arms whose true means are
known, looks after every hour, and prints the table that `docs/experiments.md` shows.

An arm's hourly return is the sum of a part that both have in common (half of the variance) and one
of its own, each a first-order autoregression of the kind that the row names. The plan is made from
the true long-run variance. "Looks" stop an experiment as soon as the always-valid test may; what is
then left is judged by the final test at the planned end.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import betaincinv

from atlas.deployment.experiments import Arms, Finding, Mode, Plan, design, judge

Floats = NDArray[np.float64]

DEVIATION = 0.002
SHARED = 0.5
"""Of the variance, common to both arms."""
SEED = 20_240_301
_BURN_IN = 300


@dataclass(frozen=True, slots=True)
class Market:
    """How hourly returns are drawn."""

    name: str
    tails: float = math.inf
    """Degrees of freedom of Student's law; infinite is normal."""
    root: float = 0.0
    """Of the autoregression."""
    clustered: bool = False
    """Whether volatility follows a GARCH(1, 1) of 0.1 and 0.85."""


MARKETS = (
    Market("normal"),
    Market("fat tails (t4)", tails=4),
    Market("autocorrelated 0.3, normal", root=0.3),
    Market("autocorrelated 0.3, fat tails", tails=4, root=0.3),
    Market("autocorrelated 0.6, fat tails", tails=4, root=0.6),
    Market("clustered volatility, 0.3", root=0.3, clustered=True),
)


def plan_for(market: Market, periods: int) -> Plan:
    """Plan the experiment whose size is that many hours; its effect follows."""
    variance = 2 * (1 - SHARED) * DEVIATION**2
    long_run = variance * (1 - market.root**2) / (1 - market.root) ** 2
    large = design(Mode.PAIRED, variance=long_run, effect=1e-3 * DEVIATION, max_drawdown=1.0)
    effect = large.effect * math.sqrt(large.periods / (periods - 0.5))
    return design(Mode.PAIRED, variance=long_run, effect=effect, max_drawdown=1.0)


def arms(market: Market, periods: int, difference: float, rng: np.random.Generator) -> Arms:
    """Draw the returns of both arms; the challenger's mean is higher by the difference."""
    shared, ours, theirs = (_noise(market, periods, rng) for _ in range(3))
    champion, challenger = (
        DEVIATION * (math.sqrt(SHARED) * shared + math.sqrt(1 - SHARED) * own)
        for own in (ours, theirs)
    )
    return Arms(champion, challenger + difference)


def _noise(market: Market, periods: int, rng: np.random.Generator) -> Floats:
    n = periods + _BURN_IN
    noise = rng.standard_normal(n)
    if math.isfinite(market.tails):
        noise = rng.standard_t(market.tails, n) / math.sqrt(market.tails / (market.tails - 2))
    if market.clustered:
        variance = 1.0
        for hour in range(n):
            noise[hour] *= math.sqrt(variance)
            variance = 0.05 + 0.1 * noise[hour] ** 2 + 0.85 * variance
    path = lfilter([math.sqrt(1 - market.root**2)], [1.0, -market.root], noise)
    return np.asarray(path[_BURN_IN:])


def play(
    market: Market, periods: int, experiments: int, *, skilled: bool, seed: int = SEED
) -> Counter[Finding]:
    """Count what experiments find; the always-valid p at the end has counted every look."""
    plan = plan_for(market, periods)
    rng = np.random.default_rng([seed, periods, MARKETS.index(market), skilled])
    difference = plan.effect if skilled else 0.0
    return Counter(
        judge(plan, arms(market, plan.periods, difference, rng)).finding for _ in range(experiments)
    )


def row(index: int, sizes: tuple[int, ...], experiments: int) -> str:
    """Play the experiments of one row of the table."""
    market, periods = MARKETS[index // len(sizes)], sizes[index % len(sizes)]
    plan = plan_for(market, periods)
    null = play(market, periods, experiments, skilled=False)
    alarms = null[Finding.CHALLENGER] + null[Finding.CHAMPION]
    skilled = play(market, periods, experiments, skilled=True)
    low, high = _interval(alarms, experiments)
    below, above = _interval(skilled[Finding.CHALLENGER], experiments)
    return (
        f"| {market.name} | {periods} | {plan.effect / DEVIATION:.3f} | "
        f"**{alarms / experiments:.1%}** | {low:.1%} to {high:.1%} | "
        f"**{skilled[Finding.CHALLENGER] / experiments:.1%}** | {below:.1%} to {above:.1%} | "
        f"{skilled[Finding.CHAMPION] / experiments:.1%} |"
    )


def table(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines of the table in markdown."""
    yield (
        "| hourly returns | planned hours | effect in deviations | false alarms | 95 % | "
        "found | 95 % | wrong winner |"
    )
    yield "|---" * 8 + "|"
    yield from lines


def _interval(k: int, n: int) -> tuple[float, float]:
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, 0.025))
    return low, 1.0 if k == n else float(betaincinv(k + 1, n - k, 0.975))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=1_000, help="a row, null and skilled")
    parser.add_argument("--hours", type=int, nargs="+", default=[504, 1_000, 2_000])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    began = time.perf_counter()
    sizes = tuple(asked.hours)
    with ProcessPoolExecutor(asked.processes) as pool:
        work = partial(row, sizes=sizes, experiments=asked.experiments)
        for line in table(pool.map(work, range(len(MARKETS) * len(sizes)))):
            print(line, flush=True)
    took = (time.perf_counter() - began) / 60
    print(f"\n{asked.experiments} experiments a figure, seed {SEED}; {took:.0f} minutes.")


if __name__ == "__main__":
    main()
