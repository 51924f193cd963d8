"""One run: what of a view is new goes from ClickHouse to Redis, and the ledger is told.

The claim is taken first and the ledger is told last; between the two a run may be killed anywhere
and run again, since a row only lands if it is later than what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from redis import Redis

from atlas.bus import RedisClock
from atlas.clickhouse.quarantine import Border, admit
from atlas.clock import to_micros
from atlas.online.landing import Landing
from atlas.online.materialisation.ahead import ahead
from atlas.online.materialisation.batch import Judge, encode, pieces, schema_of
from atlas.online.materialisation.claim import Claim
from atlas.online.materialisation.key_ranges import KeyRange, key_ranges
from atlas.online.materialisation.latest_rows import (
    Scope,
    Since,
    Survey,
    conditions,
    has_ties,
    latest_rows_query,
    survey,
)
from atlas.online.materialisation.ledger import Coverage, commit, merged, read_coverage
from atlas.online.materialisation.pipe import LandingPipe
from atlas.online.materialisation.sequences import bring_sequences
from atlas.online.materialisation.view_plan import ViewPlan
from atlas.schemas import ShareLimit, Tally

__all__ = ["Brought", "Limits", "bring_online"]

# Batches of ClickHouse's that wait for us.
_BATCHES_AHEAD = 2
# A small view is read in parts too, so that Redis need not wait for all of it.
_MIN_KEYS_PER_QUERY = 16_384
_MIN_PARTS = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """How a run goes about it; `ComputeEngineConfig` says what each is for."""

    lookback: timedelta
    keys_per_query: int
    share: ShareLimit


@dataclass(frozen=True, slots=True)
class Brought:
    """What a run did, in rows: each key's latest row of those that it looked at."""

    view: str
    landed: int
    unchanged: int
    """As they were in Redis already, or older than what is there."""
    quarantined: int
    reasons: tuple[tuple[str, int], ...]
    """Why rows are in quarantine, and how many; most frequent first."""
    everything: bool
    """Whether it looked at everything, for lack of a ledger that says what is online."""
    seconds: float

    @property
    def rows(self) -> int:
        """Rows looked at."""
        return self.landed + self.unchanged + self.quarantined


def bring_online(
    client: Client,
    redis: Redis,
    claim: Claim,
    plan: ViewPlan,
    *,
    start: datetime | None,
    end: datetime,
    limits: Limits,
    settings: dict[str, Any],
    on_rows: Callable[[int, int], None] = lambda done, keys: None,
) -> tuple[Brought, Coverage | None]:
    """Land each key's latest row, and return what was done and what is online now.

    Parameters
    ----------
    start : datetime or None
        None goes on from the ledger; a moment looks at the events from then on and no others.
    settings : dict
        ClickHouse's, for every query.
    on_rows : callable
        Told how many rows are on their way, of roughly how many.

    Raises
    ------
    InvalidInput
        If a value does not fit its declared type.
    TooManyBadRows
        If more rows break the view's schema than allowed; nothing more lands then.
    ViewBusy
        If the claim is lost.
    StoreUnavailable
        If Redis does not answer.
    """
    began = time.monotonic()
    now = RedisClock(redis).now()
    before = read_coverage(redis, plan.project, plan.stored_name)
    scope = _scope(plan, before, start, end, limits.lookback)
    seen = survey(client, plan, scope, settings)
    run = f"materialise {plan.name} {end.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    schema = schema_of(plan)
    border = partial(_admit, client, plan.name, run)
    judge, sequence_judge = (
        Judge(plan, schema, border, limits.share) if schema else None for _ in range(2)
    )
    if plan.depth:
        # Before the latest rows: who is told of those finds the sequences that end in them.
        bring_sequences(client, redis, claim, plan, scope, seen, sequence_judge, settings)
    landing = _landing(plan)
    pipe = LandingPipe(redis, landing)
    done = 0
    try:
        for batch in ahead(
            _batches(client, plan, scope, seen, limits.keys_per_query, settings),
            depth=_BATCHES_AHEAD,
        ):
            for piece in pieces(batch):
                claim.check()
                good = judge.passed(piece) if judge else piece
                if good.num_rows:
                    encoded = encode(plan, landing, good)
                    pipe.send(encoded.keys, encoded.rows)
                done += piece.num_rows
                on_rows(done, seen.keys)
        landed = pipe.finish()
    finally:
        pipe.close()
    tally = judge.tally if judge else Tally()
    bad = tally.bad
    everything = start is None and scope.since is None
    brought = Brought(
        view=plan.name,
        landed=landed,
        unchanged=done - landed - bad,
        quarantined=bad,
        reasons=tally.reasons,
        everything=everything,
        seconds=time.monotonic() - began,
    )
    after = _coverage(plan, before, scope, seen, start, now)
    if after is not None:
        told = {
            "landed": landed,
            "unchanged": brought.unchanged,
            "quarantined": bad,
            "seconds": round(brought.seconds, 3),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        commit(redis, claim, plan.project, plan.stored_name, after, told)
    return brought, after or before


def _scope(
    plan: ViewPlan,
    before: Coverage | None,
    start: datetime | None,
    end: datetime,
    lookback: timedelta,
) -> Scope:
    """Decide what to look at: what the caller says, else what is new, else everything."""
    if start is not None:
        return Scope(end, start)
    if (
        before is None
        # Rows expire behind the ledger's back: what it says was brought may be gone.
        or plan.seconds_to_live
        or not before.intervals
        or before.definition != plan.definition
        # Asked for an earlier moment than what is online: somebody has wound something back.
        or to_micros(end) < before.intervals[-1][1]
    ):
        return Scope(end)
    back = lookback // timedelta(microseconds=1)

    def less(micros: int | None) -> int | None:
        return None if micros is None else micros - back

    # From the first island on, so that the gaps between islands are filled.
    since = Since(before.intervals[0][1] - back, less(before.created_us), less(before.written_us))
    return Scope(end, since=since)


def _coverage(
    plan: ViewPlan,
    before: Coverage | None,
    scope: Scope,
    seen: Survey,
    start: datetime | None,
    now: datetime,
) -> Coverage | None:
    """Return the ledger's next entry; None leaves it as it is."""
    known = before if before and before.definition == plan.definition else None
    if start is not None and before is not None and known is None:
        # Rows beyond the caller's start are online under another definition: the entry that says
        # so must stay, or no run would ever redo them.
        return None
    if seen.last_event_us is None or seen.first_event_us is None:
        return None
    # An end that lies in the future covers nothing that is still to come.
    last = min(to_micros(scope.end), to_micros(now), seen.last_event_us)
    if start is not None:
        first = to_micros(start)
    elif scope.since and known:
        first = min(known.intervals[0][1], last)
    else:
        first = min(seen.first_event_us, last)
    found = ((first, last),) if first <= last else ()
    intervals = merged((*(known.intervals if known else ()), *found))
    if not intervals:
        return None
    if start is not None and known:
        # Rows outside the window, created since the last entry, were not looked at.
        return Coverage(plan.definition, intervals, known.created_us, known.written_us)
    return Coverage(
        plan.definition,
        intervals,
        _later(known.created_us if known else None, _earlier(seen.last_created_us, to_micros(now))),
        _later(known.written_us if known else None, seen.last_written_us),
    )


def _batches(
    client: Client,
    plan: ViewPlan,
    scope: Scope,
    seen: Survey,
    keys_per_query: int,
    settings: dict[str, Any],
) -> Iterator[pa.RecordBatch]:
    if not seen.rows:
        return
    parts = max(
        -(-seen.keys // keys_per_query),
        min(_MIN_PARTS, -(-seen.keys // _MIN_KEYS_PER_QUERY)),
    )
    where = " AND ".join(conditions(plan, scope))
    for keys in key_ranges(client, plan, where, seen.keys, parts, settings):

        def rows(*, settles_ties: bool, keys: KeyRange = keys) -> pa.Table:
            query = latest_rows_query(plan, scope, seen, keys, settles_ties=settles_ties)
            return client.query_arrow(query, settings=settings)

        found = rows(settles_ties=False)
        if has_ties(plan, found):
            found = rows(settles_ties=True)
        yield from found.to_batches()


def _landing(plan: ViewPlan) -> Landing:
    return Landing(
        plan.stored_name,
        [feature.name for feature in plan.features],
        seconds_to_live=plan.seconds_to_live,
        overwrite=plan.overwrites,
        # History has the last word on a row of the same (event, known): it may be recomputed.
        restates=True,
    )


def _admit(client: Client, view: str, run: str, schema: Any, rows: Any) -> Any:
    return admit(client, schema, rows, view=view, border=Border.ONLINE, run=run)


def _earlier(one: int | None, other: int) -> int | None:
    return None if one is None else min(one, other)


def _later(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
