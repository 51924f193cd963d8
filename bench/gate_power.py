"""How often a model of known skill passes each gate, and all of them together.

`python -m bench.gate_power` draws histories of searches whose trials have true Sharpe ratios that
we know, judges each by the default policy, and prints the table that `docs/gates.md` shows.

A history is 20 trials with normal returns of 15 % volatility a year. Their true annual Sharpe
ratios are drawn around the mean with the spread of the row, and half of the variance of their
noise is common to all. The record is cut into five equal parts: in each of four windows the trial
that was best in all parts before is traded in the next (the walk-forward windows), and the trial
that was best over those four parts is the one judged and deployed. A trade lasts as long as the
setting says and its label is the sign of what it earned. Returns are net, so nobody pays twice.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from atlas.gates import Evidence, GatePolicy
from atlas.gates.drawdown import breach, drawdown
from atlas.gates.overfitting import overfitting
from atlas.gates.skill import accuracy, sharpe
from atlas.gates.walk_forward import walk_forward
from atlas.gates.win_rate import win_rate
from atlas.stats import walk_forward_efficiency

Floats = NDArray[np.float64]

N_TRIALS = 20
N_PARTS = 5
VOLATILITY = 0.15
SHARED = 0.5
"""Correlation of the noise of two trials."""
SEED = 20_240_101
GATES = ("win_rate", "walk_forward", "overfitting", "drawdown", "accuracy", "sharpe")
POLICY = GatePolicy()


@dataclass(frozen=True, slots=True)
class Desk:
    """How a desk trades, and how long its record is."""

    name: str
    period: timedelta
    n_periods: int
    """Of the record out of sample."""
    periods_per_trade: int


HOURLY = Desk("hourly, 8-hour trades, 1 year", timedelta(hours=1), 8_760, 8)
DAILY = Desk("daily, 1-day trades, 8 years", timedelta(days=1), 2_920, 1)
# An hourly desk's Sharpe ratios are larger, and so is what its trials differ by.
ROWS = [
    *((DAILY, spread, skill) for spread in (0.05, 0.5) for skill in (0, 0.5, 1, 1.5, 2, 3, 5, 8)),
    *((HOURLY, spread, skill) for spread in (0.5, 2.0) for skill in (1, 2, 3, 5, 8, 12)),
]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gates said of one history."""

    passed: tuple[bool, ...]
    """One a gate, in the order of `GATES`."""
    efficiency: float


def history(desk: Desk, skill: float, spread: float, rng: np.random.Generator) -> Evidence:
    """Draw one search and what became of it."""
    yearly = POLICY.periods_per_year(desk.period)
    deviation = VOLATILITY / math.sqrt(yearly)
    part = desk.n_periods // (N_PARTS - 1)
    ratios = rng.normal(skill, spread, N_TRIALS) / math.sqrt(yearly)
    noise = math.sqrt(1 - SHARED) * rng.standard_normal((part * N_PARTS, N_TRIALS))
    noise += math.sqrt(SHARED) * rng.standard_normal((part * N_PARTS, 1))
    returns = deviation * (ratios + noise)
    inside, outside = [], []
    for end in range(part, part * N_PARTS, part):
        best = _best(returns[:end])
        inside.append(returns[:end, best])
        outside.append(returns[end : end + part, best])
    record = returns[part:]
    selected = _best(record)
    held = desk.periods_per_trade
    trades = record[: len(record) // held * held, selected].reshape(-1, held).sum(axis=1)
    return Evidence(
        trial_returns=record,
        selected=selected,
        in_sample=tuple(inside),
        out_of_sample=tuple(outside),
        trade_returns=trades,
        hits=trades > 0,
        period=desk.period,
    )


def _best(returns: Floats) -> int:
    return int((returns.mean(axis=0) / returns.std(axis=0, ddof=1)).argmax())


def judge(evidence: Evidence) -> Judged:
    """Ask the six gates, without the figures that a report shows beside them."""
    verdicts = [gate(evidence, POLICY).passed for gate in (win_rate, walk_forward, overfitting)]
    verdicts += [_drawdown_passes(evidence)]
    verdicts += [gate(evidence, POLICY).passed for gate in (accuracy, sharpe)]
    efficiency = walk_forward_efficiency(evidence.in_sample, evidence.out_of_sample)
    return Judged(tuple(verdicts), efficiency)


def _drawdown_passes(evidence: Evidence) -> bool:
    """Give the gate's verdict, from the first tenth of its paths where those decide it.

    It passes with about 270 breaches among 10 000. After at most 8 or at least 60 among the first
    1 000 the rest would turn the verdict with a probability below 1e-4.
    """
    first = replace(POLICY, n_paths=POLICY.n_paths // 10)
    share, _ = breach(evidence, first)
    if not 0.008 < share < 0.06:
        return share < POLICY.drawdown
    return drawdown(evidence, POLICY).passed


def row(index: int, histories: int) -> list[Judged]:
    """Judge the histories of one row; each has a stream of its own."""
    desk, spread, skill = ROWS[index]
    streams = np.random.SeedSequence([SEED, index]).spawn(histories)
    return [judge(history(desk, skill, spread, np.random.default_rng(s))) for s in streams]


def table(found: Iterator[list[Judged]]) -> Iterator[str]:
    """Yield the lines of the table in markdown."""
    yield "| desk | spread | mean Sharpe | " + " | ".join(GATES) + " | all | 95 % | median WFER |"
    yield "|---" * (len(GATES) + 6) + "|"
    for (desk, spread, skill), judged in zip(ROWS, found, strict=True):
        passed = np.array([each.passed for each in judged])
        both = int(passed.all(axis=1).sum())
        low, high = _interval(both, len(judged))
        efficiency = np.median([each.efficiency for each in judged])
        shares = " | ".join(f"{share:.2f}" for share in passed.mean(axis=0))
        yield (
            f"| {desk.name} | {spread:g} | {skill:g} | {shares} | **{both / len(judged):.2f}** | "
            f"{low:.2f} to {high:.2f} | {efficiency:.2f} |"
        )


def _interval(k: int, n: int) -> tuple[float, float]:
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, 0.025))
    return low, 1.0 if k == n else float(betaincinv(k + 1, n - k, 0.975))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--histories", type=int, default=150, help="a row")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    began = time.perf_counter()
    with ProcessPoolExecutor(asked.processes) as pool:
        found = pool.map(partial(row, histories=asked.histories), range(len(ROWS)))
        for line in table(found):
            print(line, flush=True)
    took = (time.perf_counter() - began) / 60
    print(
        f"\n{asked.histories} histories a row, seed {SEED}, policy {POLICY.version}; "
        f"{took:.0f} minutes on {asked.processes} processes."
    )


if __name__ == "__main__":
    main()
