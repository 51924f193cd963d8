"""How quarantined rows are looked at again, and those that are good now go on.

Rows are written first and recorded as readmitted after: killed between the two, the next run finds
them stored and only records it. Nothing is deleted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import polars as pl

from atlas.clickhouse.quarantine import Border
from atlas.clickhouse.quarantined_rows import Outcome, Wanted, groups, pages, record_outcomes
from atlas.errors import InvalidInput
from atlas.features import StoredView, stored_view
from atlas.ingest.readmission import readmit_candles
from atlas.market import INTERVALS, Interval, bars_table
from atlas.materialise.readmission import judge_again, readmit_features, still_stored
from atlas.online import OnlineWriter
from atlas.runtime.installation import Installation
from atlas.schemas import joined_schema

__all__ = ["Readmission", "readmit"]


@dataclass
class Readmission:
    """What became of a view's rows at a border."""

    view: str
    border: Border
    readmitted: int = 0
    replaced: int = 0
    """Another version is stored since, and stays."""
    refused: Counter[str] = field(default_factory=Counter)
    """Rows that stay in quarantine, by why."""


def readmit(
    installation: Installation, wanted: Wanted, *, now: datetime, run: str = "readmission"
) -> list[Readmission]:
    """Look at quarantined rows again, and let those go on that are good now.

    Candles are loaded as by `atlas ingest`, feature rows written as by `atlas features`; rows of
    the online border are served if they are still the offline store's; those of the training
    border need nothing, since every training makes its frame anew.

    Parameters
    ----------
    now : datetime
        The project's time: no candle closes after it, and a correction is known from it.

    Raises
    ------
    StoreUnavailable
        If a store does not answer; what was readmitted before is, run again.
    """
    done = []
    for border, view in groups(installation.clickhouse, wanted):
        report = Readmission(view, border)
        for page in pages(installation.clickhouse, wanted, border=border, view=view):
            outcomes, reasons = _look_again(installation, border, view, page, now=now, run=run)
            record_outcomes(
                installation.clickhouse, page, outcomes, border=border, view=view, run=run
            )
            report.readmitted += outcomes.count(Outcome.READMITTED)
            report.replaced += outcomes.count(Outcome.REPLACED)
            report.refused.update(reasons.drop_nulls().to_list())
        done.append(report)
    return done


def _look_again(
    installation: Installation,
    border: Border,
    view: str,
    page: pl.DataFrame,
    *,
    now: datetime,
    run: str,
) -> tuple[list[Outcome], pl.Series]:
    client = installation.clickhouse
    if border is Border.INGEST:
        interval = _interval(view)
        if interval is None:
            return _refused(page, f"Atlas keeps no bars in {view}")
        delay = installation.settings.source_delay
        return readmit_candles(client, interval, page, now=now, source_delay=delay)
    try:
        features = stored_view(view)
    except InvalidInput:
        return _refused(page, f"there is no feature view {view}")
    if border is Border.OFFLINE:
        return readmit_features(client, features, page["row"], run=run)
    if border is Border.ONLINE:
        rows, outcomes, reasons = still_stored(client, features, page["row"])
        _serve(installation, features, rows)
        return outcomes, reasons
    reasons = judge_again(joined_schema(features.schema), page["row"])[1]
    return [Outcome.READMITTED if why is None else Outcome.REFUSED for why in reasons], reasons


def _serve(installation: Installation, features: StoredView, rows: pl.DataFrame) -> None:
    if rows.is_empty():
        return
    numbers = rows.select(
        pl.col(name).cast(pl.Float64) if name in features.features else pl.lit(np.nan).alias(name)
        for name in features.kinds
    )
    # Redis compares versions: a row that is older than what is served changes nothing.
    OnlineWriter(installation.redis, features.plan).write(
        rows["symbol"].to_list(),
        rows["event_timestamp"].dt.timestamp("us").to_numpy(),
        rows["known_at"].dt.timestamp("us").to_numpy(),
        numbers.to_numpy().astype(np.float64),
        {name: rows[name].to_list() for name in features.kinds if name not in features.features},
    )


def _interval(table: str) -> Interval | None:
    return next((each for each in INTERVALS if bars_table(each) == table), None)


def _refused(page: pl.DataFrame, why: str) -> tuple[list[Outcome], pl.Series]:
    return [Outcome.REFUSED] * page.height, pl.Series("reason", [why] * page.height)
