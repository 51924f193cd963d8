"""Experiments on a real log, Redis and books: from the start to a winner that is live."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis
from sqlalchemy import create_engine, insert

from atlas.bus import set_replay
from atlas.clock import ReplayState, to_micros
from atlas.config import load_settings
from atlas.deployment import Desk
from atlas.deployment.experiments import ExperimentLog, Finding, Step
from atlas.errors import DeploymentRefused, NotEnoughData, StaleGeneration
from atlas.matured import HOUR_US
from atlas.paper import PaperLedger
from atlas.paper.tables import PROFITS
from atlas.runtime import experiments
from atlas.runtime.installation import Installation
from atlas.serving import Stage
from flows.experiments import evaluate_experiments, look

MODEL = "direction_ohlcv_1m"
ATLAS = Callable[..., tuple[int, str, str]]
NOW = to_micros(datetime(2024, 6, 1, tzinfo=UTC)) // HOUR_US


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'home' / 'deployments.db'}"


@pytest.fixture
def installation(tmp_path: Path, redis_port: int, redis: Redis, desk: Desk) -> Installation:
    """An installation in which version 1 is live, and has a paper record beside the shadow 2."""
    half_past = NOW * HOUR_US + HOUR_US // 2
    set_replay(redis, ReplayState(half_past, 0, 1.0, half_past))  # the market stands still
    home = tmp_path / "home"
    desk.stage_shadow(MODEL, 1)
    desk.promote(MODEL, 1)
    desk.stage_shadow(MODEL, 2)
    found = Installation(load_settings({}, home=home, redis_port=redis_port))
    earn(found, range(NOW - 400, NOW + 1), 0.0, seed=1)
    return found


def earn(
    installation: Installation,
    hours: range,
    difference: float,
    *,
    stage: Stage = Stage.SHADOW,
    seed: int = 2,
) -> None:
    """Write what both versions earn in these hours, as the broker would."""
    rng = np.random.default_rng(seed)
    champion = rng.normal(0.0, 0.001, len(hours))
    challenger = champion + rng.normal(difference, 0.001, len(hours))
    rows = [
        {
            "model": MODEL,
            "stage": str(place),
            "version": version,
            "symbol": symbol,
            "from_us": hour * HOUR_US,
            "to_us": (hour + 1) * HOUR_US,
            "side": 1,
            "gross": float(net),
            "cost": 0.0,
        }
        for place, version, symbol, returns in (
            (Stage.LIVE, 1, "A", champion),
            (stage, 2, "A" if stage is Stage.SHADOW else "B", challenger),
        )
        for hour, net in zip(hours, returns, strict=True)
    ]
    url = installation.settings.deployments_url
    PaperLedger(url).profits()  # makes the tables
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(insert(PROFITS), rows)
    engine.dispose()


def stages(installation: Installation) -> dict[int, Stage]:
    return {n: v.stage for n, v in installation.deployments.state(MODEL).versions.items()}


def steps(installation: Installation, number: int = 1) -> list[tuple[Step, Finding]]:
    log = ExperimentLog(installation.settings.deployments_url)
    return [(entry.step, entry.finding) for entry in log.history(number)]


def begin(installation: Installation, **options: Any) -> int:
    return experiments.start(
        installation, MODEL, challenger=2, who="ada", **{"max_drawdown": 0.5, **options}
    ).id


def test_a_better_challenger_is_promoted_and_the_log_says_why(
    atlas: ATLAS, installation: Installation, start_worker: Callable[..., Any]
) -> None:
    start_worker()
    code, out, _ = atlas(
        "experiments", "start", MODEL, "--challenger", "2", "--effect", "3", "--why", "new features"
    )
    assert code == 0
    assert out.startswith(
        f"Experiment 1: {MODEL}/2 against the live 1, paired. It finds 3.00 bps an hour with a "
        "chance of 80% in 504 hours (21 days), and names a winner where there is none with one of "
        "5.0%."
    )
    earn(installation, range(NOW + 1, NOW + 100), 0.0005)
    code, out, _ = atlas("experiments", "evaluate", "1")
    assert (code, out) == (
        1,
        "Experiment 1: undecided. 98 of 504 planned periods; no winner is named before 168.",
    )
    earn(installation, range(NOW + 100, NOW + 400), 0.0005, seed=3)
    code, out, _ = atlas("experiments", "evaluate", "1")
    assert code == 0, out
    assert "Experiment 1: ended, challenger. The challenger earns" in out
    assert "Version 2 is live." in out
    assert stages(installation) == {
        1: Stage.RETIRED,
        2: Stage.LIVE,
        3: Stage.GATED,
        9: Stage.REJECTED,
    }
    assert steps(installation) == [
        (Step.STARTED, Finding.UNDECIDED),
        (Step.LOOKED, Finding.UNDECIDED),
        (Step.DECIDED, Finding.CHALLENGER),
        (Step.ENDED, Finding.CHALLENGER),
    ]
    moved = installation.deployments.history(MODEL)[-2]
    assert moved.why.startswith("experiment 1: The challenger earns")
    # Asked again, it tells the same and does nothing.
    assert atlas("experiments", "evaluate", "1")[:2] == (0, out)
    assert len(steps(installation)) == 4
    code, out, _ = atlas("experiments", "list")
    assert code == 0
    assert "ended, challenger" in out
    code, out, _ = atlas("experiments", "list", "--history", "1")
    assert [word in out for word in ("new features", "looked", "decided")] == [True] * 3


def test_a_worse_challenger_is_withdrawn(installation: Installation) -> None:
    number = begin(installation)
    earn(installation, range(NOW + 1, NOW + 600), -0.0005)
    ended = experiments.evaluate(installation, number, who="ada")
    assert (ended.ended, ended.last.finding) == (True, Finding.CHAMPION)
    assert "Version 2 was withdrawn." in ended.last.why
    assert (stages(installation)[1], stages(installation)[2]) == (Stage.LIVE, Stage.GATED)


def test_a_challenger_that_loses_too_much_is_stopped_before_the_least_duration(
    installation: Installation,
) -> None:
    number = begin(installation, max_drawdown=0.05)
    earn(installation, range(NOW + 1, NOW + 60), -0.002)
    ended = experiments.evaluate(installation, number, who="ada")
    assert ended.last.finding is Finding.BREACHED
    assert stages(installation)[2] is Stage.GATED


def test_no_difference_at_the_planned_end_moves_nothing(installation: Installation) -> None:
    number = begin(installation, effect=0.0003)
    earn(installation, range(NOW + 1, NOW + 600), 0.0)
    ended = experiments.evaluate(installation, number, who="ada")
    assert (ended.ended, ended.last.finding) == (True, Finding.INCONCLUSIVE)
    assert (stages(installation)[1], stages(installation)[2]) == (Stage.LIVE, Stage.SHADOW)


def test_what_was_decided_and_cut_off_is_carried_out_by_the_next_look(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = begin(installation)
    earn(installation, range(NOW + 1, NOW + 600), -0.0005)
    with monkeypatch.context() as patch:
        patch.setattr(Desk, "withdraw", _killed)
        with pytest.raises(KeyboardInterrupt):
            experiments.evaluate(installation, number, who="ada")
    assert steps(installation)[-1] == (Step.DECIDED, Finding.CHAMPION)
    assert stages(installation)[2] is Stage.SHADOW
    ended = experiments.evaluate(installation, number, who="bob")
    assert (ended.ended, ended.last.finding, ended.last.who) == (True, Finding.CHAMPION, "bob")
    assert stages(installation)[2] is Stage.GATED


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_split_trades_a_share_as_canary_and_its_winner_is_promoted(
    installation: Installation, start_worker: Callable[..., Any]
) -> None:
    start_worker()
    number = begin(installation, mode=experiments.Mode.SPLIT, share=0.4)
    canary = installation.deployments.state(MODEL).canary
    assert canary is not None
    assert (canary.version, canary.manifest.share, canary.manifest.split) == (
        2,
        0.4,
        f"experiment {number}",
    )
    earn(installation, range(NOW + 1, NOW + 1_000), 0.0005, stage=Stage.CANARY)
    ended = experiments.evaluate(installation, number, who="ada")
    assert ended.last.finding is Finding.CHALLENGER, ended.last.why
    assert stages(installation)[2] is Stage.LIVE


def test_an_experiment_can_be_stopped_and_names_no_winner(
    atlas: ATLAS, installation: Installation
) -> None:
    begin(installation)
    code, out, _ = atlas("experiments", "stop", "1", "--why", "enough")
    assert (code, out) == (0, "Experiment 1: ended, inconclusive. enough")
    assert stages(installation)[2] is Stage.GATED
    assert steps(installation)[-1] == (Step.ENDED, Finding.INCONCLUSIVE)


def test_an_experiment_whose_champion_was_replaced_compares_nothing(
    installation: Installation, desk: Desk
) -> None:
    number = begin(installation)
    desk.promote(MODEL, 2)
    ended = experiments.evaluate(installation, number, who="ada")
    assert (ended.ended, ended.last.finding) == (True, Finding.INCONCLUSIVE)
    assert ended.last.why == "Version 1 is no longer live, so nothing is compared."
    assert stages(installation)[2] is Stage.LIVE


def test_a_model_has_one_experiment_at_a_time(atlas: ATLAS, installation: Installation) -> None:
    begin(installation)
    code, _, err = atlas("experiments", "start", MODEL, "--challenger", "3")
    assert code == 2
    assert "experiment 1 is. Wait for its end, or stop it" in err
    experiments.stop(installation, 1, who="ada")
    with pytest.raises(
        NotEnoughData, match=r"gates' returns of direction_ohlcv_1m/1 in this state"
    ):
        experiments.start(installation, MODEL, challenger=3, who="ada")


@pytest.mark.parametrize(
    ("challenger", "what"), [(1, "live"), (9, "rejected"), (77, "not registered")]
)
def test_only_a_version_that_passed_and_is_not_live_may_challenge(
    installation: Installation, challenger: int, what: str
) -> None:
    with pytest.raises(DeploymentRefused, match=f"version {challenger} is {what}"):
        experiments.start(installation, MODEL, challenger=challenger, who="ada")


def test_of_two_who_look_at_once_one_is_told(installation: Installation) -> None:
    number = begin(installation)
    log = ExperimentLog(installation.settings.deployments_url)
    stale = log.get(number)
    experiments.evaluate(installation, number, who="ada")
    verdict = experiments.Verdict(Finding.UNDECIDED, "late", experiments.Figures(0))
    with pytest.raises(StaleGeneration, match="somebody else wrote first"):
        log.enter(stale, Step.LOOKED, verdict, who="bob")


def test_every_look_keeps_all_its_figures(installation: Installation) -> None:
    number = begin(installation)
    earn(installation, range(NOW + 1, NOW + 200), 0.0)
    experiments.evaluate(installation, number, who="ada")
    entry = ExperimentLog(installation.settings.deployments_url).history(number)[-1]
    figures = entry.details["figures"]
    assert json.dumps(entry.details)
    assert figures.keys() >= {"difference", "error", "early_p", "challenger_drawdown"}
    assert figures["periods"] == 198


def test_the_flow_looks_at_what_runs_and_at_nothing_else(
    installation: Installation, start_worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_worker()
    monkeypatch.setattr("flows.experiments.Installation", lambda: installation)
    monkeypatch.setattr("flows.experiments.look", look.fn)
    assert evaluate_experiments.fn() == []
    number = begin(installation)
    earn(installation, range(NOW + 1, NOW + 30), 0.0005)
    assert evaluate_experiments.fn() == [f"{number}: {MODEL}/2 looked, undecided"]
    experiments.stop(installation, number, who="ada")
    assert evaluate_experiments.fn() == []
