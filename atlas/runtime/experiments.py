"""How an installation runs experiments: begins them, looks at profits, carries out the end."""

from __future__ import annotations

import polars as pl

from atlas.clock import to_micros
from atlas.deployment import BusObserver, Desk, Driver, Outcome, switch
from atlas.deployment.experiments import (
    Experiment,
    ExperimentLog,
    Figures,
    Finding,
    Mode,
    Step,
    Verdict,
    design,
    judge,
    long_run_variance,
    paired_hours,
    split_periods,
)
from atlas.errors import DeploymentRefused, NotEnoughData
from atlas.paper import PaperLedger
from atlas.registry import ModelState, VersionState
from atlas.runtime.earnings import gate_returns
from atlas.runtime.installation import Installation
from atlas.runtime.rollout import desk_terms
from atlas.serving import Stage, Traffic

__all__ = ["evaluate", "start", "stop"]

# Hours of paper record that speak for the variance better than the gates' returns do.
_PILOT_HOURS = 168


def start(
    installation: Installation,
    model: str,
    *,
    challenger: int,
    mode: Mode = Mode.PAIRED,
    share: float = 0.5,
    effect: float | None = None,
    min_hours: int | None = None,
    max_drawdown: float | None = None,
    power: float = 0.8,
    level: float | None = None,
    who: str,
    why: str = "",
) -> Experiment:
    """Begin an experiment between the live version and a challenger that passed its gates.

    Parameters
    ----------
    share : float
        Of the traffic, for the challenger of a split.
    effect : float or None
        Difference of the mean hourly net returns that is worth finding; None takes a tenth of the
        pilot's deviation.
    level : float or None
        Confidence in a winner; None takes that of the settings. The settings' threshold of
        significance counts too, where it is stricter.

    Raises
    ------
    DeploymentRefused
        If there is no live version, the challenger did not pass its gates, or an experiment of the
        model is running.
    NotEnoughData
        If nothing tells how much the returns vary.
    """
    settings, log = installation.settings, _log(installation)
    log.free_after(model)  # before anything is asked of the books
    state = installation.deployments.state(model)
    champion = _champion(state)
    subject = _subject(state, challenger)
    plan = design(
        mode,
        variance=_pilot(installation, state, champion, subject, mode, share),
        effect=effect,
        min_periods=settings.ab_min_hours if min_hours is None else min_hours,
        error=min(1 - (settings.ab_level if level is None else level), settings.ab_significance),
        power=power,
        max_drawdown=settings.max_candidate_drawdown if max_drawdown is None else max_drawdown,
        share=share if mode is Mode.SPLIT else 1.0,
    )
    begun = log.start(
        model,
        champion=champion.version,
        challenger=challenger,
        plan=plan,
        since_us=to_micros(installation.clock.now()),
        who=who,
        why=why,
    )
    # Logged first: a challenger that trades is always somebody's experiment.
    desk = Desk(installation.deployments, installation.redis, who=who)
    reason = f"experiment {begun.id}"
    if subject.stage not in (Stage.SHADOW, Stage.CANARY):
        desk.stage_shadow(model, challenger, why=reason)
    if mode is Mode.SPLIT:
        desk.canary(model, challenger, Traffic(share, reason), why=reason)
    return begun


def evaluate(installation: Installation, number: int, *, who: str) -> Experiment:
    """Look at what both versions have earned, and carry out what that decides.

    A winner is switched to live by the driver of every deployment, or the challenger withdrawn.
    Whoever is killed in between leaves it to the next look.
    """
    log = _log(installation)
    experiment = log.get(number)
    if experiment.ended:
        return experiment
    if experiment.last.step is not Step.DECIDED:
        verdict = _look(installation, experiment)
        decided = verdict.finding is not Finding.UNDECIDED
        step = Step.DECIDED if decided else Step.LOOKED
        experiment = log.enter(experiment, step, verdict, who=who)
        if not decided:
            return experiment
    else:
        figures = Figures(**experiment.last.details["figures"])
        verdict = Verdict(experiment.last.finding, experiment.last.why, figures)
    done = _carry_out(installation, experiment, verdict, who)
    return log.enter(experiment, Step.ENDED, verdict, who=who, why=done)


def stop(installation: Installation, number: int, *, who: str, why: str = "") -> Experiment:
    """End an experiment without a winner, and withdraw the challenger."""
    log = _log(installation)
    experiment = log.get(number)
    if experiment.ended:
        return experiment
    reason = why or "stopped by hand"
    _withdraw(installation, experiment, who, f"experiment {number}: {reason}")
    verdict = Verdict(Finding.INCONCLUSIVE, reason, Figures(0))
    return log.enter(experiment, Step.ENDED, verdict, who=who)


def _look(installation: Installation, experiment: Experiment) -> Verdict:
    state = installation.deployments.state(experiment.model)
    if gone := _displaced(state, experiment):
        return Verdict(Finding.INCONCLUSIVE, gone, Figures(0))
    split = experiment.plan.mode is Mode.SPLIT
    ours = _rows(installation, experiment.model, experiment.champion, Stage.LIVE)
    stage = Stage.CANARY if split else Stage.SHADOW
    theirs = _rows(installation, experiment.model, experiment.challenger, stage)
    match = split_periods if split else paired_hours
    return judge(experiment.plan, match(ours, theirs, since_us=experiment.since_us))


def _carry_out(
    installation: Installation, experiment: Experiment, verdict: Verdict, who: str
) -> str:
    """Move what the verdict asks for; return the sentence that ends the experiment."""
    reason = f"experiment {experiment.id}: {verdict.why}"
    if verdict.finding in (Finding.CHAMPION, Finding.BREACHED):
        _withdraw(installation, experiment, who, reason)
        return f"{verdict.why} Version {experiment.challenger} was withdrawn."
    if verdict.finding is not Finding.CHALLENGER:
        return verdict.why
    state = installation.deployments.state(experiment.model)
    if state.live is not None and state.live.version == experiment.challenger:
        return f"{verdict.why} Version {experiment.challenger} is live."
    desk = Desk(installation.deployments, installation.redis, who=who)
    driver = Driver(desk, observer=lambda name: BusObserver(installation.redis, name))
    walk = switch(
        experiment.challenger,
        desk_terms(installation.settings),
        shown=f"experiment {experiment.id}",
    )
    end = driver.deploy(experiment.model, experiment.challenger, walk, why=reason)
    stands = "is live" if end.outcome is Outcome.PROMOTED else "was taken back"
    return f"{verdict.why} Version {experiment.challenger} {stands}. {end.why}"


def _withdraw(installation: Installation, experiment: Experiment, who: str, why: str) -> None:
    state = installation.deployments.state(experiment.model)
    if state.versions[experiment.challenger].stage in (Stage.SHADOW, Stage.CANARY):
        desk = Desk(installation.deployments, installation.redis, who=who)
        desk.withdraw(experiment.model, experiment.challenger, why=why)


def _displaced(state: ModelState, experiment: Experiment) -> str | None:
    """Return who no longer stands where the experiment put them, or None."""
    if state.live is None or state.live.version != experiment.champion:
        return f"Version {experiment.champion} is no longer live, so nothing is compared."
    wanted = Stage.CANARY if experiment.plan.mode is Mode.SPLIT else Stage.SHADOW
    stage = state.versions[experiment.challenger].stage
    if stage is not wanted:
        return f"Version {experiment.challenger} is {stage}, no {wanted}: nothing is compared."
    return None


def _champion(state: ModelState) -> VersionState:
    if state.live is None:
        raise DeploymentRefused(
            f"Expected a live version of {state.model} to challenge; there is none. "
            "Deploy the challenger instead: atlas deploy."
        )
    return state.live


def _subject(state: ModelState, challenger: int) -> VersionState:
    found = state.versions.get(challenger)
    if found is None or not found.passed or found is state.live:
        what = "not registered" if found is None else "live" if found.passed else "rejected"
        raise DeploymentRefused(
            f"Expected a challenger of {state.model} that passed its gates and is not live; "
            f"version {challenger} is {what}."
        )
    return found


def _pilot(
    installation: Installation,
    state: ModelState,
    champion: VersionState,
    challenger: VersionState,
    mode: Mode,
    share: float,
) -> float:
    """Return the long-run variance of the difference in one hour.

    Of the paper record where both versions have one; else of the gates' returns, as if the versions
    had nothing in common, which asks for more hours rather than fewer.
    """
    model = state.model
    ours = _rows(installation, model, champion.version, Stage.LIVE)
    theirs = _rows(installation, model, challenger.version, Stage.SHADOW)
    both = paired_hours(ours, theirs)
    seen = both.champion.size >= _PILOT_HOURS
    if mode is Mode.PAIRED and seen:
        return long_run_variance(both.challenger - both.champion)
    variances = (
        (long_run_variance(both.champion), long_run_variance(both.challenger))
        if seen
        else tuple(_gate_variance(installation, model, v.version) for v in (champion, challenger))
    )
    if mode is Mode.PAIRED:
        return variances[0] + variances[1]
    # With a share of the symbols a book is spread over so many fewer.
    return variances[0] / (1 - share) + variances[1] / share


def _gate_variance(installation: Installation, model: str, version: int) -> float:
    found = gate_returns(installation.settings.home, model, version)
    if found is None or found[0].size < _PILOT_HOURS:
        raise NotEnoughData(
            f"Expected {_PILOT_HOURS} hours on paper of both versions, or the gates' returns of "
            f"{model}/{version} in this state folder, to plan from; found neither. Let the "
            "challenger run as a shadow first: atlas deploy --strategy shadow."
        )
    returns, hours = found
    return long_run_variance(returns) / hours


def _rows(installation: Installation, model: str, version: int, stage: Stage) -> pl.DataFrame:
    ledger = PaperLedger(installation.settings.deployments_url)
    return ledger.profits(model, stage=stage, version=version)


def _log(installation: Installation) -> ExperimentLog:
    return ExperimentLog(installation.settings.deployments_url)
