"""The policy: what is required, what it refuses, and that no default moves without its version."""

import hashlib
import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from atlas.config import load_settings
from atlas.errors import InvalidInput, InvalidSettings
from atlas.gates import CONVENTIONS, GatePolicy, desk_policy

# SHA-256 of the defaults and the conventions of each version, the version itself left out. Whoever
# changes either adds a line here with a new version; lines are never changed.
PINNED = {
    "2": "a3c5af0e6fa24ed1df1e3348918ffd5504dacc4335905f798e21d68c53a27c3f",
}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("win_rate", math.nan),
        ("overfitting", math.inf),
        ("r2", math.nan),
        ("min_trades", 0),
        ("min_trials", 1),
        ("n_blocks", 15),
        ("block_sensitivity", (8, 9)),
        ("n_paths", 0),
        ("drawdown_limit", 1.0),
        ("drawdown_horizon", timedelta(0)),
        ("hours_per_year", 0),
        ("return_periods", (timedelta(0),)),
        ("stress", 0.5),
    ],
)
def test_a_policy_that_could_not_refuse_is_refused(setting, value):
    with pytest.raises(InvalidInput, match=f"GatePolicy.{setting}"):
        GatePolicy(**{setting: value})


def test_the_thresholds_are_those_required():
    policy = GatePolicy()
    assert (policy.win_rate, policy.walk_forward, policy.overfitting) == (0.57, 0.85, 0.15)
    assert (policy.drawdown, policy.drawdown_limit) == (0.03, 0.20)
    assert (policy.accuracy, policy.sharpe) == (0.54, 1.0)
    assert (policy.min_trades, policy.min_trials, policy.n_blocks) == (400, 10, 16)


def test_no_default_and_no_convention_changes_without_a_new_version():
    fields = GatePolicy().as_dict()
    version = fields.pop("version")
    found = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    assert PINNED.get(version) == found


def test_what_the_figures_are_figures_of_is_part_of_every_policy():
    said = GatePolicy().as_dict()["conventions"]
    assert said == dict(CONVENTIONS)
    for kind in ("classifier", "regressor", "jump_model", "ensemble"):
        assert f"position_of_a{'n' * (kind == 'ensemble')}_{kind}" in said
    assert {"return_period", "notional", "trade", "accuracy", "sharpe", "drawdown"} <= said.keys()


def test_the_documentation_has_the_conventions_word_for_word():
    page = (Path(__file__).parents[2] / "docs" / "gates.md").read_text()
    missing = [name for name, words in CONVENTIONS.items() if f"| {words} |" not in page]
    assert missing == []


def test_the_periods_are_an_hour_or_a_day_and_the_horizon_252_days():
    policy = GatePolicy()
    assert policy.return_periods == (timedelta(hours=1), timedelta(days=1))
    assert policy.drawdown_horizon == timedelta(days=252)


def test_a_policy_that_departs_is_not_called_by_the_defaults_version():
    asked = replace(GatePolicy(), sharpe=0.1).departing("asked")
    assert asked.version == f"{GatePolicy().version}+asked"
    assert asked.departing("desk").version == f"{GatePolicy().version}+desk"


# --- the desk's settings

NAMES = ("MIN_MODEL_ACCURACY", "MIN_R2_SCORE", "MAX_MODEL_MSE")


@pytest.fixture
def desk(monkeypatch):
    """Return a maker of the desk's policy under the variables given."""

    def make(**variables):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return desk_policy(load_settings())

    return make


def test_a_desk_without_settings_has_the_defaults(desk):
    assert desk() == GatePolicy()


@pytest.mark.parametrize(
    ("variable", "field"),
    [("MIN_MODEL_ACCURACY", "accuracy"), ("MIN_R2_SCORE", "r2"), ("MAX_MODEL_MSE", "mse")],
)
def test_each_setting_moves_its_threshold_and_marks_the_version(desk, variable, field):
    policy = desk(**{variable: "0.6"})
    version = f"{GatePolicy().version}+desk"
    assert policy == replace(GatePolicy(), version=version, **{field: 0.6})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MIN_MODEL_ACCURACY", "54"),
        ("MIN_MODEL_ACCURACY", "nan"),
        ("MIN_R2_SCORE", "1"),
        ("MIN_R2_SCORE", "nan"),
        ("MAX_MODEL_MSE", "0"),
        ("MAX_MODEL_MSE", "inf"),
        ("MAX_MODEL_MSE", "low"),
    ],
)
def test_a_setting_that_could_not_refuse_is_refused(desk, variable, value):
    with pytest.raises(InvalidSettings, match=variable):
        desk(**{variable: value})
