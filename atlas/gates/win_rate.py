"""G1: enough of the trades make money after costs."""

import math

import numpy as np

from atlas.gates.evidence import Evidence
from atlas.gates.policy import GatePolicy
from atlas.gates.verdict import Verdict
from atlas.stats import clopper_pearson

__all__ = ["break_even_win_rate", "win_rate"]


def win_rate(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Judge the share of out-of-sample trades that made money after costs."""
    evidence.finite("trade_returns")
    n = evidence.trade_returns.size
    wins = int(np.count_nonzero(evidence.trade_returns > 0))
    value = wins / n if n else math.nan
    if n < policy.min_trades:
        return Verdict.inconclusive(
            "win_rate",
            threshold=policy.win_rate,
            n=n,
            needed=policy.min_trades,
            unit="trades",
            value=value,
        )
    bound = clopper_pearson(wins, n, side="lower")
    return Verdict.above("win_rate", value, threshold=policy.win_rate, n=n, bound=bound)


def break_even_win_rate(evidence: Evidence) -> float:
    """Return the win rate at which wins and losses of their mean sizes cancel; NaN without both."""
    evidence.finite("trade_returns")
    trades = evidence.trade_returns
    won, lost = trades[trades > 0], trades[trades <= 0]
    if not won.size or not lost.size:
        return math.nan
    win, loss = float(won.mean()), -float(lost.mean())
    return loss / (win + loss)
