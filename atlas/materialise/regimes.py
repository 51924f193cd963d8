"""How regimes of history are computed: a symbol and a refit at once, safe to run twice.

A refit's checkpoint is kept before the rows that it tells. The next run finds it by their stamp: it
looks whether what was known at the refit is still the same, and fits nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import Computed, create_feature_table, write_features
from atlas.clickhouse.values import frame_of, moment
from atlas.errors import FeatureRedefined, NotEnoughData
from atlas.features import RegimeSet
from atlas.regimes import (
    Checkpoint,
    Evidence,
    blob_of,
    fit,
    follow,
    gather,
    refit_of,
    refits,
    without_regime,
)
from atlas.registry import BlobStore
from atlas.schemas import ShareLimit

__all__ = ["compute_regimes"]


def compute_regimes(
    client: Client,
    regimes: RegimeSet,
    *,
    blobs: BlobStore,
    until: datetime,
    since: datetime | None = None,
    symbols: list[str] | None = None,
    on_chunk: Callable[[float], None] = lambda _: None,
    run: str = "",
    limit: ShareLimit | None = None,
) -> Computed:
    """Compute and store the regimes of the stored rows of another view, `regimes.source`.

    A correction of an input changes the rows from its bar to the next refit, as versions that are
    known later; models see it from the first refit after it was known.

    Parameters
    ----------
    blobs : BlobStore
        Keeps the checkpoint of each refit under the hash in its stamp.
    since : datetime or None
        The first row that is written; the refits before it are looked at all the same.
    on_chunk, run, limit
        As in `compute_history`.

    Raises
    ------
    NotEnoughData
        If the other view has no rows.
    FeatureRedefined
        If what was known at a refit is no longer what it was then.
    TooManyBadRows
        If there are more bad rows than the limit allows.
    """
    create_feature_table(client, regimes.view, regimes.kinds)
    create_feature_table(client, regimes.source.view, regimes.source.kinds)
    spans = _spans(client, regimes, until=until, symbols=symbols)
    if not spans:
        raise NotEnoughData(
            f"Expected rows of {regimes.source.view} until {until}, of which {regimes.view} is "
            f"made; found none. Compute them first: atlas features {regimes.source.view}"
        )
    total = Computed()
    for number, (symbol, first, last) in enumerate(spans):
        walk = _Walk(client, regimes, blobs, symbol)
        for at in refits(first, last, regimes.recipe.refit_every):
            rows = walk.tell(at, until=until)
            if since is not None:
                rows = rows.filter(pl.col("event_timestamp") >= since)
            if not rows.is_empty():
                total += write_features(
                    client, regimes, rows, run=run, limit=limit, before=total.tally
                )
            done = (at - first) / (last - first) if last > first else 1.0
            on_chunk((number + max(done, 0.0)) / len(spans))
    on_chunk(1.0)
    return total


class _Walk:
    """One symbol's walk from refit to refit, in order of time."""

    def __init__(self, client: Client, regimes: RegimeSet, blobs: BlobStore, symbol: str) -> None:
        self._client = client
        self._regimes = regimes
        self._blobs = blobs
        self._symbol = symbol
        self._stamps = dict(_stamps(client, regimes, symbol))
        self._former: Checkpoint | None = None

    def tell(self, at: datetime, *, until: datetime) -> pl.DataFrame:
        """Return the rows from a refit to the next one, none beyond `until`."""
        recipe = self._regimes.recipe
        stop = min(at + recipe.refit_every, until + timedelta(microseconds=1))
        versions = self._versions(after=at - recipe.window - recipe.refit_every, before=stop)
        if versions.filter(pl.col("event_timestamp") >= at).is_empty():
            return versions.clear()
        evidence = gather(versions, recipe, at=at, former=self._former)
        if evidence is None:
            return without_regime(versions, since=at, before=stop)
        self._former = self._checkpoint(evidence)
        return follow(self._former, versions, recipe, before=stop)

    def _checkpoint(self, evidence: Evidence) -> Checkpoint:
        stamp = self._stamps.get(evidence.refit_at)
        if stamp is None or blob_of(stamp) not in self._blobs:
            # A lost blob can be made again: the same evidence gives the same bytes.
            made = fit(evidence, self._regimes.recipe)
            if stamp is not None and made.stamp != stamp:
                raise self._redefined(evidence.refit_at, "its checkpoint is lost, and")
            self._blobs.put(made.dump())
            return made
        kept = Checkpoint.load(self._blobs.get(blob_of(stamp)))
        if kept.evidence != evidence.digest:
            raise self._redefined(evidence.refit_at, "since then")
        return kept

    def _redefined(self, at: datetime, why: str) -> FeatureRedefined:
        view, source = self._regimes.view, self._regimes.source.view
        return FeatureRedefined(
            f"Expected what was known of {self._symbol} at the refit of {view} on {at} to be as it "
            f"was; {why} it differs. The recipe of the view or {source} was redefined, or older "
            f"rows came after newer ones. Compute all of it anew: atlas features {view} --rebuild"
        )

    def _versions(self, *, after: datetime, before: datetime) -> pl.DataFrame:
        names = ", ".join(f"`{name}`" for name in self._regimes.recipe.names)
        table = self._client.query_arrow(
            f"SELECT symbol, event_timestamp, known_at, {names} "
            f"FROM `{self._regimes.source.view}` WHERE symbol = {{symbol:String}} "
            "AND event_timestamp >= {after:DateTime64(6, 'UTC')} "
            "AND event_timestamp < {before:DateTime64(6, 'UTC')} "
            "ORDER BY event_timestamp, known_at",
            parameters={
                "symbol": self._symbol,
                "after": moment(after),
                "before": moment(before),
            },
            use_strings=True,
        )
        return frame_of(table)


def _spans(
    client: Client, regimes: RegimeSet, *, until: datetime, symbols: list[str] | None
) -> list[tuple[str, datetime, datetime]]:
    wanted = "AND symbol IN {symbols:Array(String)} " if symbols is not None else ""
    rows = client.query(
        "SELECT symbol, min(event_timestamp), max(event_timestamp) "
        f"FROM `{regimes.source.view}` "
        f"WHERE event_timestamp <= {{until:DateTime64(6, 'UTC')}} {wanted}"
        "GROUP BY symbol ORDER BY symbol",
        parameters={"until": moment(until), "symbols": symbols or []},
        tz_mode="aware",
    ).result_rows
    return [(str(symbol), first, last) for symbol, first, last in rows]


def _stamps(client: Client, regimes: RegimeSet, symbol: str) -> Iterator[tuple[datetime, str]]:
    """Yield the stored refits of a symbol and their stamps."""
    found = client.query(
        f"SELECT DISTINCT model_version FROM `{regimes.view}` WHERE symbol = {{symbol:String}} "
        "AND model_version IS NOT NULL ORDER BY model_version",
        parameters={"symbol": symbol},
    ).result_rows
    for (stamp,) in found:
        yield refit_of(stamp), str(stamp)
