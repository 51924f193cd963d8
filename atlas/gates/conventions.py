"""What the policy's numbers are figures of, in words that every report carries.

They are as much a part of a policy's version as its thresholds are.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CONVENTIONS"]

CONVENTIONS: Mapping[str, str] = MappingProxyType(
    {
        "verdict": "A figure passes strictly beyond its threshold; equal, NaN and infinite fail. "
        "All gates must pass.",
        "return_period": "One hour; one day where decisions are rarer than hourly.",
        "notional": "One unit, split equally among the symbols and reset every period: returns "
        "add up. Only the paths of the drawdown gate compound.",
        "costs": "Fee, half spread and slippage on the size of every change of position, charged "
        "in the bar of the change; what is held at the end of a window is closed there.",
        "position": "Decided at a bar's close, held until the symbol's next decision, flat at the "
        "start and the end of a window.",
        "position_of_a_classifier": "1 where the probability of the upper barrier is above one "
        "half plus the trial's threshold, -1 where it is below one half minus it, else 0.",
        "position_of_a_regressor": "The sign of the forecast where its size is above the trial's "
        "threshold, else 0.",
        "position_of_a_jump_model": "The sign that the mean net return of the current regime had "
        "in the training fold; the regime comes from the online filter.",
        "position_of_an_ensemble": "That of its combined output, as of a classifier or regressor.",
        "trade": "A maximal run of one non-zero position in one symbol, with its own entry and "
        "exit cost; it wins when its net profit is above 0.",
        "accuracy": "Share of the barrier labels of 1 or -1 whose side was predicted; a label of "
        "0 is not scored, nor is a score that favours no side.",
        "walk_forward": "Mean return a period out of sample over that in sample, net, pooled over "
        "the windows of the selected configuration, without compounding.",
        "overfitting": "Symmetric cross-validation of the Sharpe ratio a period, over every trial "
        "of the search that traded; a trial of constant returns did not.",
        "drawdown": "Stationary bootstrap of the selected trial's net returns out of sample, with "
        "the automatic mean block of their sizes, at least 5. The start is a peak. A path is as "
        "long as the horizon, or as the record if that is shorter. The exact one-sided 95 % upper "
        "bound is judged.",
        "sharpe": "Mean over deviation (n - 1) of the selected trial's net returns a period, times "
        "the root of the periods in a year.",
        "regressors": "R squared and mean squared error are asked of evidence that carries "
        "forecasts, where the policy sets their thresholds; never of a classifier.",
        "point_in_time": "Asked where the evidence carries an audit: features computed again from "
        "only what was known at each row's time must all come out the same.",
    }
)
