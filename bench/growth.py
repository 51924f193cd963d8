"""How cost grows with rows: each way timed at several sizes, drawn on one page."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from bench.measure import timed
from bench.offline import Joins

matplotlib.use("Agg")

import matplotlib.pyplot as plt

__all__ = ["Curve", "draw", "join_growth"]

Curve = tuple[list[int], list[float]]


def join_growth(joins: Joins) -> dict[str, Curve]:
    """Time joins of more and more entity rows to one table; Feast's store stops early."""
    sizes = [1_000, 5_000, 20_000, 100_000, 500_000]
    frames = {n: joins.entities(n) for n in sizes}
    return {
        "Atlas, through Feast": (sizes, [timed(lambda n=n: joins.ours(frames[n])) for n in sizes]),
        "raw ASOF and fetch": (sizes, [timed(lambda n=n: joins.raw(n)) for n in sizes]),
        "Feast's ClickHouse store": (
            sizes[:3],
            [timed(lambda n=n: joins.contrib(frames[n])) for n in sizes[:3]],
        ),
    }


def draw(path: Path, panels: dict[str, tuple[str, dict[str, Curve]]]) -> None:
    """Draw one panel for each work: seconds over rows, both logarithmic.

    Parameters
    ----------
    panels : dict
        For each title the name of the rows, and a curve for each way.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 4), squeeze=False)
    for axis, (title, (rows, curves)) in zip(axes[0], panels.items(), strict=True):
        for name, (sizes, seconds) in curves.items():
            axis.loglog(sizes, seconds, marker="o", label=name)
        axis.set(title=title, xlabel=rows, ylabel="seconds")
        axis.grid(visible=True, which="major", alpha=0.3)
        axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
