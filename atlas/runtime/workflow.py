"""The steps that flows and commands share, each over one installation's stores."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.clickhouse import read_bars
from atlas.clickhouse.feature_rows import fingerprint
from atlas.clickhouse.quarantine import Border, admit
from atlas.clickhouse.values import moment
from atlas.clock import WallClock
from atlas.errors import InvalidSettings, NotEnoughData
from atlas.gates import GatePolicy, Report
from atlas.market import Interval, bars_table
from atlas.reporting import write_gate_page
from atlas.runtime.code_version import code_version
from atlas.runtime.installation import Installation
from atlas.training import (
    Candidate,
    Decisions,
    Dossier,
    Evaluate,
    FrameCache,
    Prices,
    Trained,
    TrainingFrame,
    Trial,
    TrialMemory,
    Walker,
    feast_join,
    file_version,
    frame_key,
    join_features,
    label_events,
    record_report,
    search_key,
    track,
    train,
    training_slot,
)

if TYPE_CHECKING:
    import polars as pl

    from atlas.online.materialisation.run import Brought

__all__ = [
    "StoredBars",
    "bring_online",
    "fit",
    "gate_page",
    "join_frame",
    "judge_version",
    "keep_version",
    "label_decisions",
    "register_verdict",
    "stored_bars",
]


@dataclass(frozen=True, slots=True)
class StoredBars:
    """What is stored of one interval by some moment."""

    symbols: list[str]
    first: datetime
    last: datetime


def stored_bars(installation: Installation, interval: Interval, *, until: datetime) -> StoredBars:
    """Return the symbols and the span of the bars that closed by `until`.

    Raises
    ------
    NotEnoughData
        If there are none.
    """
    rows = installation.clickhouse.query(
        f"SELECT symbol, min(event_timestamp), max(event_timestamp) FROM {bars_table(interval)} "
        "WHERE event_timestamp <= {until:DateTime64(6, 'UTC')} GROUP BY symbol ORDER BY symbol",
        parameters={"until": moment(until)},
        tz_mode="aware",
    ).result_rows
    if not rows:
        raise NotEnoughData(
            f"Expected {interval} bars that closed by {until:%Y-%m-%d %H:%M} UTC; there are none. "
            "Ingest candles first: `atlas ingest PATH`."
        )
    return StoredBars(
        [str(row[0]) for row in rows], min(row[1] for row in rows), max(row[2] for row in rows)
    )


def bring_online(installation: Installation, view: str, *, until: datetime) -> Brought:
    """Bring each symbol's newest row of a view until then online, and say what was done.

    It goes on from the ledger, as `feast materialize-incremental` does.

    Raises
    ------
    TooManyBadRows
        If the share of bad rows is above the setting; nothing more lands then.
    ViewBusy
        If another run of the view does not end in time.
    """
    feast = installation.feast
    feast.materialize_incremental(end_date=until, feature_views=[view])
    brought: Brought = feast.provider.batch_engine.brought[view]
    return brought


def label_decisions(
    installation: Installation,
    candidate: Candidate,
    *,
    symbols: list[str],
    since: datetime,
    until: datetime,
) -> Decisions:
    """Label every decision from `since` whose outcome is known by `until`.

    Raises
    ------
    InvalidSettings
        If bars are known later than at their close: decisions are made and entered there.
    """
    delay = installation.settings.source_delay
    if delay:
        raise InvalidSettings(
            f"Expected ATLAS_SOURCE_DELAY of 0 to train; found {delay}. A decision at a bar's "
            "close would be trained on the bar before it. Train with the delay at 0."
        )
    interval = candidate.features.interval
    step = timedelta(microseconds=1)
    # The look-back too, so that features of the first decisions can be computed again.
    bars = read_bars(
        installation.clickhouse,
        interval,
        symbols,
        after=since - candidate.features.lookback - step,
        before=until + step,
    )
    return Decisions(
        events=label_events(
            bars.filter(bars["event_timestamp"] >= since), interval, candidate.target
        ),
        bars=bars,
        since=since,
    )


def join_frame(
    installation: Installation, candidate: Candidate, decisions: Decisions, *, run: str = ""
) -> TrainingFrame:
    """Join features as they were known at each decision; rows that break the schema are kept out.

    They go to quarantine under `run`. A frame of the same decisions over the same stored rows is
    taken from the cache.
    """
    moments = decisions.moments if candidate.looks_back else None
    cache = FrameCache(installation.settings.home / "frames")
    key = frame_key(
        candidate,
        decisions.events,
        moments,
        stored=fingerprint(
            installation.clickhouse,
            candidate.features,
            decisions.events["symbol"].unique().to_list(),
            first=decisions.bars["event_timestamp"].min(),  # type: ignore[arg-type]
            last=decisions.bars["event_timestamp"].max(),  # type: ignore[arg-type]
        ),
    )
    known = cache.get(key)
    if known is not None and known.rows.height >= installation.settings.min_training_rows:
        return known
    frame = join_features(
        decisions.events,
        candidate,
        feast_join(installation.feast),
        min_rows=installation.settings.min_training_rows,
        moments=moments,
        border=partial(
            admit,
            installation.clickhouse,
            view=candidate.features.view,
            border=Border.TRAINING,
            run=run or f"train {candidate.model}",
        ),
        limit=installation.share_limit,
    )
    cache.put(key, frame)
    return frame


def fit(
    installation: Installation,
    candidate: Candidate,
    frame: TrainingFrame,
    *,
    bars: pl.DataFrame | None = None,
    evaluate: Callable[[Walker], AbstractContextManager[Evaluate]] | None = None,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> Trained:
    """Search, choose and fit, within the settings' processes and time; resumable.

    Raises
    ------
    TrainingBusy
        If as many trainings as allowed are under way, and none ends in time.
    TrainingTimeout
        If it does not end in time.
    """
    settings = installation.settings
    timeout = timedelta(hours=settings.training_timeout_hours)
    with training_slot(
        settings.home / "training", n_slots=settings.max_training_jobs, patience=timeout
    ):
        memory = TrialMemory(settings.home / "training" / search_key(candidate, frame))
        return train(
            candidate,
            frame,
            bars=bars,
            n_processes=settings.training_processes,
            timeout=timeout,
            evaluate=evaluate,
            memory=memory,
            on_trial=on_trial,
        )


def keep_version(installation: Installation, trained: Trained, *, who: str = "") -> Dossier:
    """Record the run in MLflow, register the version, keep its bytes, and open its file.

    Parameters
    ----------
    who : str
        Who trained it.
    """
    settings = installation.settings
    tracked = track(
        trained,
        tracking_uri=settings.tracking_uri,
        experiment=settings.mlflow_experiment,
        artifacts=settings.home / "mlartifacts",
        code_version=code_version(),
        prices=Prices(cpu_hour=settings.cpu_hour_price, gpu_hour=settings.gpu_hour_price),
        budget=settings.training_budget,
        encrypted=settings.artifact_key is not None,
    )
    dossier = file_version(
        trained,
        tracked,
        home=settings.home,
        blobs=installation.blobs,
        code_version=code_version(),
        now=WallClock().now(),
        who=who,
    )
    key = search_key(trained.candidate, trained.frame)
    TrialMemory(settings.home / "training" / key).forget()
    return dossier


def judge_version(
    installation: Installation, model: str, version: int, *, policy: GatePolicy, who: str
) -> Report:
    """Judge a version's evidence; keep the verdicts in its file, its page and in MLflow."""
    settings = installation.settings
    dossier = Dossier.of(settings.home, model, version)
    report = dossier.judge(policy, who=who, now=WallClock().now())
    page = gate_page(installation, model, version)
    write_gate_page(
        page, report, dossier.manifest, evidence=dossier.evidence(), periods=dossier.periods()
    )
    record_report(
        report,
        dossier.manifest["run_id"],
        tracking_uri=settings.tracking_uri,
        model=model,
        version=version,
        page=page.read_text(),
    )
    return report


def gate_page(installation: Installation, model: str, version: int) -> Path:
    """Return where the page of a version's verdicts lies: beside its manifest."""
    return Dossier.of(installation.settings.home, model, version).folder / "gates.html"


def register_verdict(
    installation: Installation, model: str, version: int, report: Report, *, who: str
) -> None:
    """Enter a version in the deployment log, gated or rejected for ever.

    One of the profile `verify` is rejected, whatever its gates say: it was made to show that the
    machinery works.
    """
    dossier = Dossier.of(installation.settings.home, model, version)
    profile = dossier.manifest.get("profile", "full")
    why = f"gates: {report.outcome}"
    if profile != "full":
        why += f"; trained with the profile {profile}, which is not for trading"
    installation.deployments.register(
        dossier.serving_manifest(),
        passed=report.passed and profile == "full",
        report=str(dossier.folder / "manifest.json"),
        who=who,
        why=why,
    )
