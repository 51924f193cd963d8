"""Figures of a training: what the model looks at, how often it is right, what it earned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atlas.clock import from_micros
from atlas.decision import centre_of
from atlas.engines import XGBoostEngine
from atlas.training.metrics import judged_labels, label_metrics
from atlas.training.trainer import Trained

__all__ = ["contributions", "draw_figures", "importance"]

# A server or a worker has no screen.
matplotlib.use("Agg")

Floats = NDArray[np.float64]

_BLUE, _RED, _GREY = "#3b6ea5", "#b5493a", "#8a8f98"
_SHAP_ROWS = 1_000
_PERMUTED_ROWS = 1_000
_CALIBRATION_BINS = 10


def draw_figures(trained: Trained, folder: Path, *, revealing: bool = True) -> None:
    """Write every figure that the model has, as PNG; those of its inside where `revealing`."""
    drawings: dict[str, Callable[[Trained, Any], None]] = {
        "equity": _equity,
        "confusion_matrix": _confusion,
    }
    if revealing:
        drawings["feature_importance"] = _importance
    if trained.candidate.task == "direction":
        drawings["calibration"] = _calibration
    if revealing and isinstance(trained.engine, XGBoostEngine):
        drawings["shap_summary"] = _shap
    for name, draw in drawings.items():
        tall = name in ("feature_importance", "shap_summary")
        height = 0.28 * len(trained.frame.features) + 1.2 if tall else 4.0
        figure = Figure(figsize=(7 if name != "confusion_matrix" else 4.6, height))
        figure.set_layout_engine("constrained")
        draw(trained, figure.subplots())
        figure.savefig(folder / f"{name}.png", dpi=110)


def importance(trained: Trained) -> tuple[str, Floats]:
    """Return what a feature is worth to the model, one number a feature, and in what.

    Of XGBoost's trees the gain of its splits; of any other engine the log loss (or squared error)
    that is added when the feature is shuffled among judged rows.
    """
    names = trained.frame.features
    if isinstance(trained.engine, XGBoostEngine):
        gain = trained.engine.booster_.get_score(importance_type="gain")
        return "gain of its splits", np.array([gain.get(name, 0.0) for name in names])
    return "loss added when shuffled", _permuted(trained)


def contributions(trained: Trained) -> tuple[Floats, Floats]:
    """Return XGBoost's own SHAP values of judged rows, (n, n_features), and the rows' features.

    In log odds (of a regressor in units of return), without the bias column.

    References
    ----------
    Lundberg et al. (2020), "From Local Explanations to Global Understanding with Explainable AI
    for Trees".
    """
    import xgboost

    assert isinstance(trained.engine, XGBoostEngine)
    rows = _sample(trained, _SHAP_ROWS)
    X = trained.dataset.X[rows].astype(np.float32)
    matrix = xgboost.DMatrix(X, feature_names=list(trained.frame.features), nthread=1)
    values = trained.engine.booster_.predict(matrix, pred_contribs=True)
    return values[:, :-1].astype(np.float64), X.astype(np.float64)


def _permuted(trained: Trained) -> Floats:
    dataset = trained.dataset.take(_sample(trained, _PERMUTED_ROWS))
    engine, random = trained.engine, np.random.default_rng(0)
    window = engine.window
    rows = dataset.X if window == 1 else dataset.windows(window)[:]

    def loss(values: Any) -> float:
        scores = engine.predict(values)[:, -1]
        if engine.task == "direction":
            return label_metrics(dataset.y > 0, scores)["log_loss"]
        return float(np.mean((scores - dataset.require_returns()) ** 2))

    whole = loss(rows)
    worth = np.empty(rows.shape[-1])
    for column in range(rows.shape[-1]):
        shuffled = rows.copy()
        shuffled[..., column] = rows[random.permutation(len(rows))][..., column]
        worth[column] = loss(shuffled) - whole
    return worth


def _sample(trained: Trained, n: int) -> NDArray[np.intp]:
    """Return labelled rows spread over those that the gates judge."""
    judged = trained.folds.judged_rows
    labelled = judged[trained.dataset.weights[judged] > 0]
    at = np.unique(np.linspace(0, len(labelled) - 1, n).astype(np.intp))
    picked: NDArray[np.intp] = labelled[at]
    return picked


def _importance(trained: Trained, axes: Any) -> None:
    what, worth = importance(trained)
    order = np.argsort(worth, kind="stable")
    axes.barh([trained.frame.features[i] for i in order], worth[order], color=_BLUE)
    axes.set_xlabel(what)
    axes.set_title(f"What {trained.candidate.model} looks at ({trained.engine.name})")


def _shap(trained: Trained, axes: Any) -> None:
    values, X = contributions(trained)
    order = np.argsort(np.abs(values).mean(axis=0), kind="stable")
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
    for place, column in enumerate(order):
        axes.scatter(
            values[:, column],
            place + spread,
            c=_ranks(X[:, column]),
            cmap="coolwarm",
            vmin=0,
            vmax=1,
            s=5,
            linewidths=0,
        )
    axes.set_yticks(range(len(order)), [trained.frame.features[i] for i in order])
    axes.axvline(0, color=_GREY, linewidth=0.8)
    unit = "log odds of up" if trained.candidate.task == "direction" else "return"
    axes.set_xlabel(f"contribution to the score ({unit}); red: high value of the feature")
    axes.set_title("SHAP values of judged rows, final fit")


def _ranks(values: Floats) -> Floats:
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(1, len(values) - 1)
    return np.where(np.isnan(values), 0.5, ranks)


def _confusion(trained: Trained, axes: Any) -> None:
    up, scores = judged_labels(trained)
    said = scores > centre_of(trained.candidate.task)
    counts = np.array([[np.sum((up == a) & (said == b)) for b in (0, 1)] for a in (0, 1)])
    axes.imshow(counts, cmap="Blues")
    for row, column in np.ndindex(2, 2):
        dark = counts[row, column] > counts.max() / 2
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}",
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    axes.set_xticks([0, 1], ["down", "up"])
    axes.set_yticks([0, 1], ["down", "up"])
    axes.set_xlabel("said")
    axes.set_ylabel("was")
    axes.set_title("Barrier labels, out of sample")


def _calibration(trained: Trained, axes: Any) -> None:
    up, scores = judged_labels(trained)
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, _CALIBRATION_BINS) if len(part)]
    said = np.array([scores[part].mean() for part in parts])
    came = np.array([up[part].mean() for part in parts])
    error = np.array([np.sqrt(c * (1 - c) / len(p)) for c, p in zip(came, parts, strict=True)])
    ends = [min(said.min(), came.min()), max(said.max(), came.max())]
    axes.plot(ends, ends, color=_GREY, linewidth=0.8, label="as said")
    axes.errorbar(said, came, yerr=2 * error, fmt="o", color=_BLUE, markersize=4, capsize=2)
    axes.set_xlabel("probability of up, as said (tenths of the rows)")
    axes.set_ylabel("share that went up, ± 2 standard errors")
    axes.set_title("Calibration, out of sample")
    axes.legend(frameon=False)


def _equity(trained: Trained, axes: Any) -> None:
    times: Sequence[Any] = [from_micros(int(start)) for start in trained.periods_us]
    evidence = trained.evidence
    paths = 100 * np.cumsum(evidence.trial_returns, axis=0)
    axes.plot(times, np.delete(paths, evidence.selected, axis=1), color=_GREY, lw=0.5, alpha=0.5)
    axes.plot(times, paths[:, evidence.selected], color=_RED, linewidth=1.4)
    axes.set_ylabel("net return, % of the notional, summed")
    axes.set_title("Judged periods: the chosen trial (red) among all trials")
    axes.tick_params(axis="x", rotation=30)
