"""The stages of the demo: each does one thing with Atlas's flows, and tells of it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from atlas.bus import latest_signals, read_acks, read_route, set_wall
from atlas.clickhouse import read_bars
from atlas.deployment import Conclusion, operator_name
from atlas.errors import AtlasError, StoreUnavailable
from atlas.features import feature_set
from atlas.fills import Costs
from atlas.gates import GatePolicy
from atlas.paper import settle
from atlas.reporting import Judged, Observed, RunReport, write_report
from atlas.runtime import Supervisor
from atlas.runtime.installation import Installation
from atlas.serving import Stage
from atlas.streaming import read_plan, wind_back, write_plan
from atlas.training import Dossier, candidate_for
from flows.deploy import deploy, observe
from flows.features import compute_features
from flows.gate import gate
from flows.market import Market
from flows.materialise import materialise
from flows.narration import Narrator
from flows.pipeline import Judgement
from flows.train import train

__all__ = ["begin", "conclude", "judge", "play_live", "prepare_features", "require"]

# As fast as the machine goes: a bar is due every 10 ms of the wall's time at one minute.
_DEMO_SPEED = 6_000.0
_STALLED_SECONDS = 60.0
# The demo's machine also runs everything else, on two cores.
_MAX_LATENCY_MS = 1_000.0
# Gaps in a user's bars may leave a shadow short of rows; then it is taken back.
_PATIENCE_S = 180.0


def require(supervisor: Supervisor, *names: str) -> None:
    """Wait for components; refuse to go on without them.

    Raises
    ------
    StoreUnavailable
        If one of them has failed, with its reason.
    """
    supervisor.settle(*names)
    for state in supervisor.states():
        if state.name in names and state.lost:
            raise StoreUnavailable(f"{state.name} did not start: {state.reason}")


def begin(narrator: Narrator, supervisor: Supervisor) -> None:
    """Wait for the stores and for Prefect, and let a fresh installation trade."""
    require(supervisor, "tables", "redis", "prefect")
    installation = Installation()
    set_wall(installation.redis)
    if installation.halts.last() is None:
        installation.latch.release(
            operator_name(), "first start of this installation, by the demo", expected=0
        )
    elif not installation.latch.restore():
        narrator.say("[yellow]Trading is halted[/]; nothing live is published. `atlas release`")


def prepare_features(narrator: Narrator, market: Market) -> None:
    """Compute features of history, register them with Feast, bring the newest rows online."""
    installation = Installation()
    with narrator.stage(f"Features of {market.interval} bars, offline and online"):
        computed = compute_features(market.views, market.split, market.first, list(market.symbols))
        for view, done in computed.items():
            narrator.say(
                f"{view}: {done.computed:,} rows, {done.written:,} written, "
                f"{done.unchanged:,} there already, {done.quarantined:,} quarantined"
            )
        models = [candidate_for(feature_set(view)).model for view in market.views]
        wind_back(installation.redis, market.plan(end=market.split, speed=1.0), models)
        materialise(market.views, market.split)
        narrator.say(f"online as of {market.split:%Y-%m-%d %H:%M} UTC, by the replay clock")


def judge(narrator: Narrator, market: Market, *, trials: int, seed: int) -> list[Judgement]:
    """Train one candidate a view, and let the gates judge each."""
    judgements = []
    for view in market.views:
        with narrator.stage(f"Train {view}"):
            model, version = train(
                view, list(market.symbols), market.first, market.split, trials, seed
            )
            manifest = Dossier.of(Installation().settings.home, model, version).manifest
            period = Dossier.of(Installation().settings.home, model, version).evidence().period
            yearly = math.sqrt(GatePolicy().periods_per_year(period))
            best = manifest["best_in_sample"]
            narrator.say(
                f"frame: {manifest['rows']:,} decisions joined as known at their time; "
                f"{manifest['trials']} trials walked forward; registered {model}/{version}"
            )
            narrator.say(
                f"best in sample: Sharpe {best['in_sample'] * yearly:.1f} a year; the same trial "
                f"out of sample: {best['out_of_sample'] * yearly:.1f}"
            )
            report = gate(model, version)
        narrator.report(model, version, report)
        judgements.append(Judgement(view, model, version, report))
    return judgements


def play_live(
    narrator: Narrator, market: Market, judgements: Sequence[Judgement]
) -> tuple[Observed, Conclusion | None]:
    """Play bars that training never saw, and stage a model on them."""
    installation = Installation()
    passed = [judged for judged in judgements if judged.report.passed]
    chosen = max(passed or judgements, key=_sharpe)
    bars = (market.played_until - market.split) // market.interval.delta
    title = "shadow to live" if passed else "rejected: observed only, never traded"
    with narrator.stage(f"Play {bars:,} unseen bars: {chosen.model}/{chosen.version}, {title}"):
        staging = None
        if passed:
            rows = max(1, bars * len(market.symbols) // 4)
            staging = _Staging(chosen, rows)
        else:
            observe(chosen.model, chosen.version, operator_name())
        _await_served(installation, chosen)
        write_plan(installation.redis, market.plan(end=market.played_until, speed=_DEMO_SPEED))
        _watch(narrator, installation, chosen, staging)
        conclusion = staging.conclusion() if staging is not None else None
    # From here `make up` plays on, at the pace of the settings.
    plan = read_plan(installation.redis)
    if plan is not None:
        rest = market.plan(end=market.last, speed=installation.settings.replay_speed)
        write_plan(installation.redis, replace(rest, played_us=plan.played_us))
    live = conclusion is not None and conclusion.outcome == "promoted"
    stage = Stage.LIVE if live else Stage.SHADOW if passed else Stage.REJECTED
    seen = _observed(installation, market, chosen, stage)
    _tell_observed(narrator, seen, conclusion)
    return seen, conclusion


def conclude(
    narrator: Narrator,
    market: Market,
    judgements: Sequence[Judgement],
    played: tuple[Observed, Conclusion | None],
) -> Path:
    """Say what was decided and why, write the report, and say how to look further."""
    installation = Installation()
    seen, conclusion = played
    former = installation.deployments.state(seen.model).live
    decision = _decision(judgements, seen, conclusion, former.version if former else None)
    home = installation.settings.home
    judged = []
    for each in judgements:
        dossier = Dossier.of(home, each.model, each.version)
        judged.append(
            Judged(
                each.model,
                each.version,
                dossier.evidence(),
                each.report,
                dossier.manifest,
                dossier.periods(),
            )
        )
    path = write_report(
        RunReport(
            title="Atlas run report",
            source=market.source,
            simulated=market.simulated,
            decision=decision,
            facts=_facts(market),
            judged=judged,
            observed=seen,
        ),
        home / "reports" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.html",
    )
    narrator.console.print("\n[bold]Decided[/]")
    narrator.say(decision)
    narrator.console.print("\n[bold]Look further[/]")
    narrator.say(f"report   {path}")
    narrator.say("stack    make up         then, in another terminal:")
    narrator.say("         atlas status    atlas signals    atlas deployments")
    narrator.say("         feast -c feature_repo feature-views list")
    narrator.say(f"[dim]{narrator.elapsed:.0f} s in all[/]")
    return path


class _Staging:
    """A deployment under way beside the replay that it waits for."""

    def __init__(self, chosen: Judgement, rows: int) -> None:
        self._ended: list[Conclusion | Exception] = []
        # A daemon: Ctrl-C must not wait for a deployment that waits for rows.
        self._thread = threading.Thread(
            target=self._run, args=(chosen, rows), name="deploy", daemon=True
        )
        self._thread.start()

    @property
    def under_way(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def conclusion(self) -> Conclusion:
        """Wait for the end, and return or raise it."""
        self._thread.join()
        ended = self._ended[0]
        if isinstance(ended, Exception):
            raise ended
        return ended

    def _run(self, chosen: Judgement, rows: int) -> None:
        try:
            self._ended.append(
                deploy(chosen.model, chosen.version, rows, _MAX_LATENCY_MS, _PATIENCE_S)
            )
        except Exception as error:
            self._ended.append(error)


def _sharpe(judged: Judgement) -> float:
    value = float(judged.report["sharpe"].value)
    return value if math.isfinite(value) else -math.inf


def _await_served(installation: Installation, chosen: Judgement) -> None:
    """Wait until a worker has taken the model in, so that the first bar finds it."""
    give_up = time.monotonic() + _STALLED_SECONDS
    while time.monotonic() < give_up:
        for ack in read_acks(installation.redis, chosen.model).values():
            if ack.error:
                raise AtlasError(f"The worker refused {chosen.model}: {ack.error}")
            if chosen.version in ack.versions.values():
                return
        time.sleep(0.1)
    raise StoreUnavailable("No worker took the model in. Look at logs/worker.log.")


def _watch(
    narrator: Narrator,
    installation: Installation,
    chosen: Judgement,
    staging: _Staging | None,
) -> None:
    stage = ""
    moved, played_us = time.monotonic(), -1
    with narrator.bar("Replay") as bar:
        while True:
            plan = read_plan(installation.redis)
            route = read_route(installation.redis, chosen.model)
            if plan is None:
                raise StoreUnavailable("The replay's plan is gone from Redis. Run the demo again.")
            now_stage = _stage_of(route, chosen.version)
            if now_stage != stage:
                stage = now_stage
                at = datetime.fromtimestamp(plan.played_us / 1e6, UTC)
                bar.console.print(
                    f"  {chosen.model}/{chosen.version} {stage} from {at:%d %b %H:%M}"
                )
            if plan.played_us != played_us:
                moved, played_us = time.monotonic(), plan.played_us
            span = plan.end_us - plan.start_us
            bar.update(bar.task_ids[0], completed=(plan.played_us - plan.start_us) / span)
            if plan.finished and (staging is None or not staging.under_way):
                return
            if time.monotonic() - moved > _STALLED_SECONDS and not plan.finished:
                raise StoreUnavailable("The replay stands still. Look at logs/live.log.")
            time.sleep(0.1)


def _stage_of(route: object, version: int) -> str:
    for name in ("live", "shadow", "observed"):
        manifest = getattr(route, name, None)
        if manifest is not None and manifest.version == version:
            return name
    return "not served"


def _observed(
    installation: Installation, market: Market, chosen: Judgement, stage: Stage
) -> Observed:
    signals = [
        signal
        for _, signal in latest_signals(installation.redis, stage, 100_000)
        if (signal.model, signal.version) == (chosen.model, chosen.version)
    ]
    bars = read_bars(
        installation.clickhouse,
        market.interval,
        market.symbols,
        after=market.split - market.interval.delta,
        before=market.played_until + market.interval.delta,
    )
    dossier = Dossier.of(installation.settings.home, chosen.model, chosen.version)
    manifest = dossier.manifest
    settlement = settle(
        signals,
        bars,
        interval=market.interval,
        decision_bars=manifest["target"]["decision_bars"],
        costs=Costs(**{f"{k}_bps": v for k, v in manifest["costs_bps"].items()}),
        period=dossier.evidence().period,
        n_symbols=len(manifest["symbols"]),
    )
    latency = _latency(installation, chosen, len(signals))
    return Observed(chosen.model, chosen.version, stage, signals, bars, settlement, latency)


def _latency(installation: Installation, chosen: Judgement, wanted: int) -> tuple[float, float]:
    """Return the median and 99th percentile in ms, once the predictions have been stored."""
    give_up = time.monotonic() + 10.0
    while True:
        count, p50, p99 = installation.clickhouse.query(
            "SELECT count(), quantileExact(0.5)(latency_us), quantileExact(0.99)(latency_us) "
            "FROM predictions WHERE model = {model:String} AND version = {version:UInt32}",
            parameters={"model": chosen.model, "version": chosen.version},
        ).first_row
        if count >= wanted or time.monotonic() > give_up:
            return float(p50) / 1e3, float(p99) / 1e3
        time.sleep(0.2)


def _tell_observed(narrator: Narrator, seen: Observed, conclusion: Conclusion | None) -> None:
    settled = seen.settlement
    if conclusion is not None:
        narrator.say(f"{conclusion.outcome}: {conclusion.why}")
    stream = "atlas:signals" if seen.stage is Stage.LIVE else f"atlas:signals:{seen.stage}"
    narrator.say(
        f"{settled.signals:,} signals on {stream}, {settled.decisions:,} of them decisions; "
        f"latency {seen.latency_ms[0]:.1f} ms median, {seen.latency_ms[1]:.1f} ms at 99 %"
    )
    trades = settled.trade_returns
    won = f"{100 * settled.win_rate:.0f} % won" if trades.size else "none closed"
    what = "earned" if seen.stage is Stage.LIVE else "would have earned"
    narrator.say(
        f"{what} {100 * settled.net_return:+.2f} % of the notional after costs in "
        f"{np.size(settled.period_returns)} periods: {trades.size} trades, {won}"
    )


def _decision(
    judgements: Sequence[Judgement],
    seen: Observed,
    conclusion: Conclusion | None,
    live: int | None,
) -> str:
    parts = []
    for each in judgements:
        failed = [v for v in each.report.verdicts if str(v.outcome) != "PASS"]
        if not failed:
            parts.append(f"{each.model}/{each.version} passed every gate.")
        else:
            reasons = "; ".join(f"{v.name}: {v.reason}" for v in failed)
            parts.append(f"{each.model}/{each.version} was rejected ({reasons}).")
    name = f"{seen.model}/{seen.version}"
    if conclusion is None:
        stays = f"{seen.model}/{live} stays live on its own symbols" if live else "Nothing is live"
        parts.append(f"{stays}; {name} is observed on a stream that nobody trades on.")
    elif seen.stage is Stage.LIVE:
        parts.append(f"{name} is live.")
    else:
        parts.append(f"{name} was taken back: {conclusion.why}")
    return " ".join(parts)


def _facts(market: Market) -> list[tuple[str, str]]:
    return [
        ("source", market.source),
        ("symbols", ", ".join(market.symbols)),
        ("bars", str(market.interval)),
        ("trained on", f"{market.first:%Y-%m-%d %H:%M} to {market.split:%Y-%m-%d %H:%M} UTC"),
        (
            "played live",
            f"{market.split:%Y-%m-%d %H:%M} to {market.played_until:%Y-%m-%d %H:%M} UTC",
        ),
    ]
