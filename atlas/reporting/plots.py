"""The plots of the run report, as SVG text: price with signals, equity with drawdown."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
import polars as pl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atlas.serving import Signal

__all__ = ["draw_equity", "draw_price"]

matplotlib.use("Agg")

_INK, _GREY, _UP, _DOWN = "#22313f", "#9aa7b2", "#1a7f5a", "#b3402e"


def draw_price(bars: pl.DataFrame, signals: Sequence[Signal]) -> str:
    """Draw each symbol's close with the sides taken on its decision bars; return SVG."""
    symbols = bars["symbol"].unique().sort().to_list()
    figure = Figure(figsize=(10, 1.9 * len(symbols) + 0.6), layout="constrained")
    panels = figure.subplots(len(symbols), 1, sharex=True, squeeze=False)[:, 0]
    for axes, symbol in zip(panels, symbols, strict=True):
        own = bars.filter(pl.col("symbol") == symbol).sort("event_timestamp")
        axes.plot(own["event_timestamp"], own["close"], color=_INK, linewidth=0.9)
        close = dict(zip(own["event_timestamp"].dt.timestamp("us"), own["close"], strict=True))
        for side, marker, colour in ((1, "^", _UP), (-1, "v", _DOWN)):
            taken = [
                s
                for s in signals
                if s.symbol == symbol and s.decides and s.side == side and s.event_us in close
            ]
            moments = pl.Series([s.event_us for s in taken], dtype=pl.Int64)
            axes.scatter(
                moments.cast(pl.Datetime("us", "UTC")).to_list(),
                [close[s.event_us] for s in taken],
                marker=marker,
                color=colour,
                s=26,
                zorder=3,
            )
        axes.set_ylabel(symbol)
        _plain(axes)
    figure.suptitle("Close, with the side taken on decision bars (▲ long, ▼ short)", fontsize=10)
    return _svg(figure)


def draw_equity(times: Sequence[object], returns: NDArray[np.float64], title: str) -> str:
    """Draw summed net returns and their drawdown, in percent of the notional; return SVG."""
    equity = np.concatenate([[0.0], np.cumsum(returns)])
    drawdown = equity - np.maximum.accumulate(equity)
    moments = [times[0], *times[1:], times[-1]] if len(times) else []
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    if moments:
        top.step(moments, 100 * equity, where="post", color=_INK, linewidth=1.1)
        bottom.fill_between(moments, 100 * drawdown, step="post", color=_DOWN, alpha=0.6)
    top.axhline(0.0, color=_GREY, linewidth=0.6)
    top.set_ylabel("net return, %")
    bottom.set_ylabel("drawdown, %")
    top.set_title(title, fontsize=10)
    for axes in (top, bottom):
        _plain(axes)
    return _svg(figure)


def _plain(axes: object) -> None:
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)  # type: ignore[attr-defined]
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[attr-defined]
    axes.tick_params(labelsize=8)  # type: ignore[attr-defined]
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)  # type: ignore[attr-defined]


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
