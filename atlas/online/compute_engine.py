"""Feast's compute engine that streams each key's latest row from ClickHouse into Redis."""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from clickhouse_connect.driver.exceptions import ClickHouseError
from feast.infra.common.materialization_job import (
    MaterializationJob,
    MaterializationJobStatus,
    MaterializationTask,
)
from feast.infra.compute_engines.base import ComputeEngine as FeastComputeEngine
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from pydantic import Field

from atlas.clickhouse.clients import client_of, query_settings
from atlas.clickhouse.reasons import reason_of
from atlas.config import load_settings
from atlas.errors import AtlasError, InvalidInput, StoreUnavailable
from atlas.online.materialisation.claim import Claim
from atlas.online.materialisation.feast_record import record_intervals
from atlas.online.materialisation.ledger import forget
from atlas.online.materialisation.run import Brought, Limits, bring_online
from atlas.online.materialisation.view_plan import ViewPlan, view_plan
from atlas.online.store import RedisOnlineStore
from atlas.schemas import ShareLimit
from atlas.telemetry import get_logger

__all__ = ["ComputeEngine", "ComputeEngineConfig"]

log = get_logger(__name__)

# Feast's first incremental run starts at the wall's now less the TTL, or less a year.
_FEAST_DEFAULT_AGE = timedelta(weeks=52)
# By so much a start may differ from that: Feast writes to its registry in between.
_FEAST_DEFAULT_SLACK = timedelta(minutes=10)


class ComputeEngineConfig(FeastConfigBaseModel):
    """How views are brought online; every field may be left out of feature_store.yaml."""

    type: str = "atlas.online.ComputeEngine"
    lookback: timedelta = Field(timedelta(minutes=10), ge=timedelta(0))
    """How far behind the last run an incremental one looks again, for rows that were on their way
    then; in seconds, or as ISO 8601. Rows that are online already cost a comparison in Redis."""
    written_column: str = "written_at"
    """Column that says when ClickHouse stored a row, in tables that have it. Rows stored since the
    last run are looked at whatever their own times, such as those of a backfill."""
    wait_s: float = Field(60.0, ge=0)
    """How long a run waits for another one of the same view."""
    lease_s: float = Field(15.0, gt=0)
    """How long after its death a run still keeps others out."""
    keys_per_query: int = Field(100_000, ge=1)
    """Keys that ClickHouse picks latest rows for at a time; it bounds memory on both sides."""
    max_bad_share: float = Field(default_factory=lambda: load_settings().max_bad_share, ge=0, le=1)
    """Share of rows that break their view's schema above which a run stops."""
    min_judged_rows: int = Field(default_factory=lambda: load_settings().min_judged_rows, ge=1)
    """Rows that a run must have met before that share is judged."""

    @property
    def limits(self) -> Limits:
        """What bounds a run."""
        share = ShareLimit(self.max_bad_share, self.min_judged_rows)
        return Limits(self.lookback, self.keys_per_query, share)


@dataclass
class Job(MaterializationJob):
    """A run that has ended."""

    name: str
    failure: BaseException | None = None

    def status(self) -> MaterializationJobStatus:
        """Say whether it brought its view online."""
        if self.failure is None:
            return MaterializationJobStatus.SUCCEEDED
        return MaterializationJobStatus.ERROR

    def error(self) -> BaseException | None:
        """Return why it did not."""
        return self.failure

    def should_be_retried(self) -> bool:
        """Say whether another try may succeed by itself."""
        return isinstance(self.failure, StoreUnavailable)

    def job_id(self) -> str:
        """Name the run."""
        return self.name

    def url(self) -> str | None:
        """Return where to look at it: nowhere."""
        return None


class ComputeEngine(FeastComputeEngine):
    """Brings views online: `feast materialize` and `materialize-incremental` end up here.

    - Each key's latest row by (event, known) lands, unless Redis holds a later one; a row of the
      same (event, known) with other values lands too, because history was recomputed. Null and
      NaN are null. A view's TTL keeps nothing back: age is the reader's to judge, by the project's
      clock.
    - `materialize START END` looks at events in `[START, END]`. `materialize-incremental END` goes
      on from the ledger in Redis (`materialisation.ledger`), and from there looks at later events,
      at rows created since, and at rows stored since, less the look-back. Without an entry, or
      with one of another definition, or for an END before what is online, or if rows expire
      (`key_ttl_seconds`), it looks at everything until END. Feast does not say which of the two
      commands was given: a START that is Feast's own default for the second is taken as it.
    - Rows of Atlas's own views must keep their schema; bad ones go to quarantine. If a key's latest
      row is bad, nothing lands for it: its old row stays, and goes stale.
    - One run a view at a time; any number may be started, and a run may be killed anywhere.
    """

    def __init__(
        self, *, repo_config: Any, offline_store: Any, online_store: Any, **settings: Any
    ) -> None:
        super().__init__(
            repo_config=repo_config, offline_store=offline_store, online_store=online_store
        )
        self.config = ComputeEngineConfig(**settings)
        self.brought: dict[str, Brought] = {}
        """What the last run of each view did."""

    @property
    def supports_batch(self) -> bool:
        """All views come in one call: only then does Feast leave its registry to the engine."""
        return True

    @property
    def applies_materialization(self) -> bool:
        """The ledger's few intervals are written here, instead of one more for each run."""
        return True

    def update(
        self,
        project: str,
        views_to_delete: Sequence[Any],
        views_to_keep: Sequence[Any],
        entities_to_delete: Sequence[Any],
        entities_to_keep: Sequence[Any],
    ) -> None:
        """Forget what was online of views that are deleted."""
        self.teardown_infra(project, views_to_delete, entities_to_delete)

    def teardown_infra(self, project: str, fvs: Sequence[Any], entities: Sequence[Any]) -> None:
        """Forget what was online of these views."""
        from atlas.online.feast_internals import stored_view_name

        if isinstance(self.online_store, RedisOnlineStore):
            for view in fvs:
                forget(self._redis(), project, stored_view_name(view, self.repo_config))

    def materialize(
        self,
        registry: BaseRegistry,
        tasks: MaterializationTask | list[MaterializationTask],
        **_: Any,
    ) -> list[Job]:
        """Bring views online, one after the other; a view that fails does not stop the others."""
        given = [tasks] if isinstance(tasks, MaterializationTask) else tasks
        return [self._job(registry, task) for task in given]

    def _job(self, registry: BaseRegistry, task: MaterializationTask) -> Job:
        name = f"{task.feature_view.name} until {task.end_time.isoformat()}"
        try:
            with _clickhouse_told(task.feature_view.name):
                brought = self._bring_online(registry, task)
        except AtlasError as error:
            log.warning("view_not_online", view=task.feature_view.name, error=str(error))
            return Job(name, _for_the_command_line(error))
        self.brought[brought.view] = brought
        print(_told(brought), flush=True)
        return Job(name)

    def _bring_online(self, registry: BaseRegistry, task: MaterializationTask) -> Brought:
        view = task.feature_view
        if not isinstance(self.online_store, RedisOnlineStore):
            raise InvalidInput(
                "Expected the online store to be atlas.online.RedisOnlineStore, since "
                "atlas.online.ComputeEngine compares rows inside Redis; found "
                f"{type(self.online_store).__name__}. Set both in feature_store.yaml, or neither."
            )
        redis = self._redis()
        plan = view_plan(self.repo_config, view, written_column=self.config.written_column)
        start = None if _goes_on(task) else _aware(task.start_time)
        claim = Claim(
            redis,
            plan.project,
            plan.stored_name,
            lease_s=self.config.lease_s,
            wait_s=self.config.wait_s,
        )
        offline = self.repo_config.offline_store
        with claim, _progress(task) as on_rows:
            brought, coverage = bring_online(
                client_of(offline),
                redis,
                claim,
                plan,
                start=start,
                end=_aware(task.end_time),
                limits=self.config.limits,
                settings=query_settings(offline),
                on_rows=on_rows,
            )
            claim.check()
            if coverage and not _is_of_a_version(view, plan):
                record_intervals(registry, task.project, view.name, coverage.intervals)
        return brought

    def _redis(self) -> Any:
        return self.online_store.client(self.repo_config)


def _goes_on(task: MaterializationTask) -> bool:
    """Say whether a task is an incremental one: Feast gives only its start."""
    start = _aware(task.start_time)
    last = task.feature_view.most_recent_end_time
    if last is not None:
        return start == _aware(last)
    default = datetime.now(UTC) - (task.feature_view.ttl or _FEAST_DEFAULT_AGE)
    return timedelta(0) <= default - start <= _FEAST_DEFAULT_SLACK


def _is_of_a_version(view: Any, plan: ViewPlan) -> bool:
    """Say whether a view was asked for by its version: the registry's entry is of the newest."""
    return getattr(getattr(view, "projection", None), "version_tag", None) is not None


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@contextmanager
def _clickhouse_told(view: str) -> Any:
    try:
        yield
    except ClickHouseError as error:
        raise StoreUnavailable(
            f"Expected ClickHouse to give the latest rows of view {view}; found: "
            f"{reason_of(error)}. Run again; if it was memory, lower keys_per_query of the "
            "batch_engine."
        ) from error


@contextmanager
def _progress(task: MaterializationTask) -> Any:
    """Show a bar if Feast wants one."""
    bar: Any = None

    def show(done: int, keys: int) -> None:
        nonlocal bar
        if bar is None and task.tqdm_builder is not None:
            bar = task.tqdm_builder(max(keys, done))
        if bar is not None:
            bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def _told(brought: Brought) -> str:
    return (
        f"{brought.view}: {brought.landed:,} rows landed, {brought.unchanged:,} unchanged, "
        f"{brought.quarantined:,} in quarantine, in {brought.seconds:.2f} s"
        f"{' (looked at everything)' if brought.everything else ''}."
    )


def _for_the_command_line(error: AtlasError) -> BaseException:
    """Return the error that Feast's command line shows as one sentence instead of a trace."""
    if click.get_current_context(silent=True) is None:
        return error
    told = click.ClickException(f"{type(error).__name__}: {error}")
    told.__cause__ = error
    return told
