"""Where each version of a model stands, and which moves its present place allows.

```text
            register           stage     canary      promote
(new) ──► registered ─┬─► gated ─────► shadow ────► canary ────► live
                      │     ▲            │ │ ▲        │            │ replaced, rolled back, retired
                      │     └────────────┘ │ └─ stage ┼─────────── ▼
                      │     ▲  withdrawn   └──────────┼─► live   retired ──► live (roll back)
                      │     └─────────────────────────┘
                      └─► rejected ──► observed, never anything else
```

A version that did not pass its gates has no way to shadow or live: no action leads there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from atlas.errors import DeploymentRefused
from atlas.serving import Manifest, Route, Stage

__all__ = ["Action", "ModelState", "Move", "VersionState", "plan_moves"]


class Action(StrEnum):
    """What somebody does to a version."""

    REGISTER = "register"
    STAGE = "stage"
    """Make it the shadow."""
    CANARY = "canary"
    """Let the shadow trade a share of the traffic, or give the canary another share."""
    PROMOTE = "promote"
    """Make the shadow or the canary live."""
    WITHDRAW = "withdraw"
    """Take the shadow or the canary back."""
    ROLL_BACK = "roll_back"
    """Make the former live version live again."""
    OBSERVE = "observe"
    """Watch what a rejected version would have said."""
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Move:
    """One version's step from one stage to another; from None when it is new."""

    version: int
    from_stage: Stage | None
    to_stage: Stage


@dataclass(frozen=True, slots=True)
class VersionState:
    """Where one version stands."""

    version: int
    stage: Stage
    passed: bool
    """Whether its gate report let it pass."""
    manifest: Manifest
    report: str
    """Where its gate report is."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """Where all versions of one model stand: what the log says when read from its beginning."""

    model: str
    generation: int = 0
    versions: Mapping[int, VersionState] = field(default_factory=dict)
    live_before: tuple[int, ...] = ()
    """The versions that were live, oldest first, up to the present one; a roll-back drops one."""
    observed: int | None = None

    @property
    def live(self) -> VersionState | None:
        """The version that trades."""
        return self._in(Stage.LIVE)

    @property
    def shadow(self) -> VersionState | None:
        """The version that is watched beside it."""
        return self._in(Stage.SHADOW)

    @property
    def canary(self) -> VersionState | None:
        """The version that trades a share beside the live one."""
        return self._in(Stage.CANARY)

    @property
    def former_live(self) -> VersionState | None:
        """The version to which a roll-back goes."""
        former = self.live_before[:-1] if self.live else self.live_before
        return self.versions[former[-1]] if former else None

    def route(self) -> Route:
        """Return what workers are to serve."""
        live, shadow, canary = self.live, self.shadow, self.canary
        observed = self.versions.get(self.observed) if self.observed is not None else None
        return Route(
            self.model,
            self.generation,
            live=live.manifest if live else None,
            shadow=shadow.manifest if shadow else None,
            observed=observed.manifest if observed else None,
            canary=canary.manifest if canary else None,
        )

    def after(self, action: Action, moves: Mapping[Move, VersionState]) -> ModelState:
        """Return the state after one generation of moves, each with its version's new state."""
        versions, live, observed = dict(self.versions), list(self.live_before), self.observed
        for move, state in moves.items():
            versions[move.version] = state
            if move.from_stage is Stage.LIVE and action in (Action.ROLL_BACK, Action.RETIRE):
                live.pop()
            if move.to_stage is Stage.LIVE and action is Action.PROMOTE:
                live.append(move.version)
            if action is Action.OBSERVE:
                observed = move.version
            elif move.version == observed and move.to_stage is Stage.RETIRED:
                observed = None
        return replace(
            self,
            generation=self.generation + 1,
            versions=versions,
            live_before=tuple(live),
            observed=observed,
        )

    def _in(self, stage: Stage) -> VersionState | None:
        return next((v for v in self.versions.values() if v.stage is stage), None)


def plan_moves(state: ModelState, action: Action, version: int) -> tuple[Move, ...]:
    """Return the moves that an action on a registered version makes, the version's own first.

    Raises
    ------
    DeploymentRefused
        If the version is unknown, the action is not open to it where it stands, or it could not be
        served, since its view keeps fewer rows online than it looks at.
    """
    if version not in state.versions:
        known = ", ".join(map(str, sorted(state.versions))) or "none"
        raise DeploymentRefused(
            f"Expected a registered version of {state.model}; found {version}. Known: {known}."
        )
    subject = state.versions[version]
    needs_gates = action in (Action.STAGE, Action.CANARY, Action.PROMOTE, Action.ROLL_BACK)
    if needs_gates and not subject.passed:
        raise DeploymentRefused(
            f"Expected a version of {state.model} that passed every gate; version {version} was "
            f"rejected. Read {subject.report or 'its gate report'}, or observe it instead."
        )
    open_from, target = _ACTIONS[action]
    if subject.stage not in open_from:
        raise DeploymentRefused(
            f"Expected {state.model}/{version} to be {' or '.join(open_from)} to {action}; "
            f"found {subject.stage}."
        )
    if action not in (Action.WITHDRAW, Action.RETIRE):
        subject.manifest.require_history()
    if action is Action.ROLL_BACK and subject is not state.former_live:
        raise DeploymentRefused(
            f"Expected the former live version of {state.model}; found {version}."
        )
    if action is Action.CANARY:
        _check_same_rows(state, subject)
    moves = [Move(version, subject.stage, target)]
    displaced, place = {
        Action.STAGE: (state.shadow, Stage.GATED),
        Action.CANARY: (state.canary, Stage.GATED),
        Action.PROMOTE: (state.live, Stage.RETIRED),
        Action.ROLL_BACK: (state.live, Stage.RETIRED),
    }.get(action, (None, Stage.RETIRED))
    if displaced is not None and displaced is not subject:
        moves.append(Move(displaced.version, displaced.stage, place))
    return tuple(moves)


# Action: the stages that it is open to, and where it leads.
_ACTIONS: Mapping[Action, tuple[tuple[Stage, ...], Stage]] = {
    Action.STAGE: ((Stage.GATED, Stage.RETIRED), Stage.SHADOW),
    Action.CANARY: ((Stage.SHADOW, Stage.CANARY), Stage.CANARY),
    Action.PROMOTE: ((Stage.SHADOW, Stage.CANARY), Stage.LIVE),
    Action.WITHDRAW: ((Stage.SHADOW, Stage.CANARY), Stage.GATED),
    # It has been live before, so it came through shadow once, wherever it stands now.
    Action.ROLL_BACK: ((Stage.RETIRED, Stage.SHADOW, Stage.CANARY, Stage.GATED), Stage.LIVE),
    Action.OBSERVE: ((Stage.REJECTED,), Stage.REJECTED),
    Action.RETIRE: (
        (Stage.GATED, Stage.REJECTED, Stage.SHADOW, Stage.CANARY, Stage.LIVE),
        Stage.RETIRED,
    ),
}


def _check_same_rows(state: ModelState, subject: VersionState) -> None:
    """Raise unless a canary reads the rows that the live version reads: they share them."""
    live = state.live
    if live is None:
        return
    rows, theirs = ((v.manifest.plan.view, v.manifest.decision_bars) for v in (subject, live))
    if rows != theirs:
        raise DeploymentRefused(
            f"Expected the canary {state.model}/{subject.version} to read the view and decide on "
            f"the bars of the live version, {theirs[0]} every {theirs[1]}; found {rows[0]} every "
            f"{rows[1]}. Switch to it whole instead: --strategy blue-green."
        )
