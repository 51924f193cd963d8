"""A feed that plays stored bars as if they closed now, and moves the project's clock with them.

The plan is in Redis: which bars, from when to when, at what speed, and how far it has come. A feed
that dies is started again and goes on from there. Market time runs at the plan's speed, never past
the next bar's close, so a slow machine makes a replay longer and nothing goes stale by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import polars as pl
from clickhouse_connect.driver.client import Client
from redis import Redis
from redis.exceptions import ResponseError, WatchError

from atlas.bus import forget_published, reaching, set_replay
from atlas.bus.regimes import forget_regimes
from atlas.bus.rows import forget_told
from atlas.clickhouse import read_bars
from atlas.clock import ReplayState, from_micros, to_micros, wall_micros
from atlas.errors import StoreUnavailable
from atlas.features import RegimeSet, StoredView, feature_set, stored_views
from atlas.market import interval_of
from atlas.online import OnlineWriter
from atlas.serving import rows_streams
from atlas.streaming.live import LiveFeatures
from atlas.streaming.tail import Tail
from atlas.telemetry import get_logger

__all__ = ["ReplayPlan", "play", "read_plan", "wind_back", "write_plan"]

log = get_logger(__name__)

PLAN_KEY = "atlas:replay"
# Held while a bar may be served; it expires when the feed was killed.
_PLAYING_KEY = "atlas:replay:playing"
_PLAYING_SECONDS = 20
# Bars are read so many at once, and stored after so many steps or seconds.
_READ_BARS = 500
_STORE_STEPS = 200
_STORE_SECONDS = 1.0
# How long a bar waits for the worker to have taken in the former one.
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What to play."""

    interval: str
    views: tuple[str, ...]
    symbols: tuple[str, ...]
    start_us: int
    """Bars that close after this are played."""
    end_us: int
    speed: float
    """Market seconds a wall second."""
    played_us: int
    """Close of the newest bar that was played."""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to play."""
        return self.played_us >= self.end_us


def write_plan(redis: Redis, plan: ReplayPlan) -> None:
    """Replace the plan; a running feed takes it up within a second."""
    with reaching(redis):
        redis.set(PLAN_KEY, _encode(plan))


def read_plan(redis: Redis) -> ReplayPlan | None:
    """Return the plan, or None when nothing is to be played."""
    with reaching(redis):
        text: Any = redis.get(PLAN_KEY)
    if text is None:
        return None
    fields = orjson.loads(text)
    return ReplayPlan(**{**fields, **{k: tuple(fields[k]) for k in ("views", "symbols")}})


def wind_back(redis: Redis, plan: ReplayPlan, models: Sequence[str]) -> None:
    """Take back what an earlier replay of the same time left in Redis, and stand at the start.

    Online rows and published marks of later market time would outrank the ones to come. Whoever
    plays has laid down the old plan when this begins to forget.

    Raises
    ------
    StoreUnavailable
        If a feed goes on playing, or Redis does not answer.
    """
    with reaching(redis):
        redis.delete(PLAN_KEY)
    _await_silence(redis)
    wound = [view for view in stored_views() if _is_played(view, plan)]
    for view in wound:
        OnlineWriter(redis, view.plan).forget(plan.symbols)
        if isinstance(view, RegimeSet):
            forget_regimes(redis, view.view, plan.symbols)
        forget_told(redis, view.view)
        with reaching(redis):
            # Emptied, not deleted: the workers' consumer groups live in it.
            for stream in rows_streams(view.view):
                redis.xtrim(stream, maxlen=0, approximate=False)
    forget_published(redis, models)
    set_replay(redis, ReplayState(plan.start_us, wall_micros(), plan.speed, plan.start_us))


def _is_played(view: StoredView, plan: ReplayPlan) -> bool:
    """Tell whether a view's rows come of the replay, by itself or out of those of another."""
    source = view.source if isinstance(view, RegimeSet) else view
    return source.view in plan.views


def play(
    redis: Redis,
    client: Client,
    *,
    until: Callable[[], bool] = lambda: False,
    on_step: Callable[[ReplayPlan], None] = lambda _: None,
) -> ReplayPlan | None:
    """Play the plan to its end, until told to stop or given another; return how far it came.

    Each bar is served before the step is recorded, and recorded before the next one: after a
    crash a bar may be served twice, which changes nothing, but none is left out.
    """
    # Said before the plan is read, so that whoever takes the plan away sees that it is played.
    _say_playing(redis)
    try:
        plan = read_plan(redis)
        if plan is None or plan.finished:
            return plan
        return _play(redis, client, plan, until, on_step)
    finally:
        with reaching(redis):
            redis.delete(_PLAYING_KEY)


def _play(
    redis: Redis,
    client: Client,
    plan: ReplayPlan,
    until: Callable[[], bool],
    on_step: Callable[[ReplayPlan], None],
) -> ReplayPlan:
    sets = [feature_set(view) for view in plan.views]
    lives = [LiveFeatures(features, redis, client) for features in sets]
    lookback = max(features.lookback for features in sets)
    played = from_micros(plan.played_us)
    deepest = max(features.depth * features.interval.delta for features in sets)
    tail = _tail(client, plan, played, lookback, reach=max(lookback, deepest))
    _store_missed(tail, lives, plan, lookback)
    for live in lives:
        live.recall(tail, since=played - max(lookback, deepest))
    set_replay(redis, ReplayState(plan.played_us, wall_micros(), plan.speed, plan.played_us))
    stored_at = time.monotonic()
    for step, (moment, bars) in enumerate(_bars_after(client, plan, played), 1):
        if not _wait_until_due(redis, plan, to_micros(moment), until):
            break
        tail.append(bars)
        for live in lives:
            live.push(tail, since=moment)
        former, plan = plan, replace(plan, played_us=to_micros(moment))
        if plan.finished:
            _store(lives)  # nobody comes back to a plan that is finished
        if not _advance(redis, former, plan):
            break
        if step % _STORE_STEPS == 0 or time.monotonic() - stored_at > _STORE_SECONDS:
            _store(lives)
            stored_at = time.monotonic()
        on_step(plan)
        _await_workers(redis, plan)
    else:
        _store(lives)
        former, plan = plan, replace(plan, played_us=plan.end_us)
        _advance(redis, former, plan)
    _store(lives)
    return plan


def _tail(
    client: Client, plan: ReplayPlan, played: datetime, lookback: timedelta, *, reach: timedelta
) -> Tail:
    # Beyond the look-back: what a crash kept from the stores is computed again from it.
    step = timedelta(microseconds=1)
    bars = read_bars(
        client,
        interval_of(plan.interval),
        plan.symbols,
        after=played - lookback - reach,
        before=played + step,
    )
    return Tail(bars, lookback)


def _store_missed(
    tail: Tail, lives: list[LiveFeatures], plan: ReplayPlan, reach: timedelta
) -> None:
    """Store the rows of bars that were played, but whose features a crash kept from ClickHouse.

    A crash keeps back what the last `_STORE_STEPS` steps gathered, at the most; `reach`, the
    longest look-back of the sets, is longer.
    """
    if plan.played_us <= plan.start_us or tail.bars.is_empty():
        return
    since = max(from_micros(plan.start_us), from_micros(plan.played_us) - reach)
    for live in lives:
        live.recompute(tail, since=since + timedelta(microseconds=1))
        live.store()


def _store(lives: list[LiveFeatures]) -> None:
    for live in lives:
        live.store()


def _bars_after(
    client: Client, plan: ReplayPlan, played: datetime
) -> Iterator[tuple[datetime, pl.DataFrame]]:
    interval = interval_of(plan.interval)
    end = from_micros(plan.end_us)
    start = played
    while start < end:
        stop = min(start + _READ_BARS * interval.delta, end)
        bars = read_bars(
            client,
            interval,
            plan.symbols,
            after=start,
            before=stop + timedelta(microseconds=1),
        )
        for moment, group in bars.sort("event_timestamp", "symbol").group_by(
            "event_timestamp", maintain_order=True
        ):
            yield _moment(moment[0]), group
        start = stop


def _moment(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value


def _wait_until_due(
    redis: Redis, plan: ReplayPlan, close_us: int, until: Callable[[], bool]
) -> bool:
    """Let market time run up to the bar's close, no further; say whether the bar is to be played.

    It is not when the feed is told to stop, or the plan was taken away or replaced meanwhile.
    """
    wall = wall_micros()
    due = wall / 1e6 + (close_us - plan.played_us) / 1e6 / plan.speed
    if not _is_wanted(redis, plan):
        return False
    set_replay(redis, ReplayState(plan.played_us, wall, plan.speed, close_us))
    while (left := due - time.time()) > 0:
        time.sleep(min(left, 0.2))
        if until() or not _is_wanted(redis, plan):
            return False
    set_replay(redis, ReplayState(close_us, wall_micros(), plan.speed, close_us))
    return not until()


def _is_wanted(redis: Redis, plan: ReplayPlan) -> bool:
    """Tell whether this plan is still the one to play, and that it is being played."""
    _say_playing(redis)
    wanted = read_plan(redis) == plan
    if not wanted:
        log.info("replay_replaced", interval=plan.interval, played_us=plan.played_us)
    return wanted


def _advance(redis: Redis, former: ReplayPlan, plan: ReplayPlan) -> bool:
    """Record a step, unless the plan was taken away or replaced meanwhile; say whether so."""
    with reaching(redis), redis.pipeline() as pipeline:
        pipeline.watch(PLAN_KEY)  # type: ignore[no-untyped-call]
        if pipeline.get(PLAN_KEY) != _encode(former):
            return False
        pipeline.multi()
        pipeline.set(PLAN_KEY, _encode(plan))
        try:
            pipeline.execute()
        except WatchError:
            return False
    return True


def _encode(plan: ReplayPlan) -> bytes:
    return orjson.dumps({name: getattr(plan, name) for name in ReplayPlan.__slots__})


def _say_playing(redis: Redis) -> None:
    with reaching(redis):
        redis.set(_PLAYING_KEY, 1, ex=_PLAYING_SECONDS)


def _await_silence(redis: Redis) -> None:
    give_up = time.monotonic() + 2 * _PLAYING_SECONDS
    while time.monotonic() < give_up:
        with reaching(redis):
            if not redis.exists(_PLAYING_KEY):
                return
        time.sleep(0.02)
    raise StoreUnavailable(
        "Expected the feed to lay down its plan; it goes on playing. Look at logs/live.log."
    )


def _await_workers(redis: Redis, plan: ReplayPlan) -> None:
    """Wait until every consumer has taken in what was told, but not for one that is away."""
    streams = [stream for view in plan.views for stream in rows_streams(view)]
    patience = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < patience:
        if _drained(redis, streams):
            return
        time.sleep(0.001)


def _drained(redis: Redis, streams: Sequence[str]) -> bool:
    with reaching(redis), redis.pipeline(transaction=False) as pipeline:
        for stream in streams:
            pipeline.xinfo_stream(stream)
            pipeline.xinfo_groups(stream)
        replies: Any = pipeline.execute(raise_on_error=False)
    for info, groups in zip(replies[::2], replies[1::2], strict=True):
        if isinstance(info, ResponseError):  # nothing was ever told there
            continue
        last = info["last-generated-id"]
        if any(
            group["consumers"] and (group["last-delivered-id"] != last or group["pending"])
            for group in groups
        ):
            return False
    return True
