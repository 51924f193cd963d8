"""From labelled history to a judged model version: labels, frames, search, evidence, records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas.training.audit import Audit, audit_features
    from atlas.training.candidate import Candidate, SearchPlan, candidate_for, plan_of
    from atlas.training.cost import Cost, Prices
    from atlas.training.dossier import Dossier, file_version
    from atlas.training.evaluators import InProcess, Processes
    from atlas.training.feast_history import feast_join
    from atlas.training.folds import Fold, Folds, lay_folds
    from atlas.training.frame import PointInTime, TrainingFrame, join_features
    from atlas.training.frame_cache import FrameCache, frame_key
    from atlas.training.labels import (
        Decisions,
        Target,
        default_target,
        label_events,
        meta_labels,
    )
    from atlas.training.search import Evaluate, best_trial, run_search
    from atlas.training.slots import training_slot
    from atlas.training.tracking import Tracked, record_report, track
    from atlas.training.trainer import Trained, train
    from atlas.training.trial_memory import TrialMemory, search_key
    from atlas.training.walk import Proposal, Trial, Walker

__all__ = [
    "Audit",
    "Candidate",
    "Cost",
    "Decisions",
    "Dossier",
    "Evaluate",
    "Fold",
    "Folds",
    "FrameCache",
    "InProcess",
    "PointInTime",
    "Prices",
    "Processes",
    "Proposal",
    "SearchPlan",
    "Target",
    "Tracked",
    "Trained",
    "TrainingFrame",
    "Trial",
    "TrialMemory",
    "Walker",
    "audit_features",
    "best_trial",
    "candidate_for",
    "default_target",
    "feast_join",
    "file_version",
    "frame_key",
    "join_features",
    "label_events",
    "lay_folds",
    "meta_labels",
    "plan_of",
    "record_report",
    "run_search",
    "search_key",
    "track",
    "train",
    "training_slot",
]

# A process that walks trials needs a few of these, and must not pay for Feast, MLflow and pandera.
_HOME = {
    "Audit": "audit",
    "Candidate": "candidate",
    "Cost": "cost",
    "Decisions": "labels",
    "Dossier": "dossier",
    "Evaluate": "search",
    "Fold": "folds",
    "Folds": "folds",
    "FrameCache": "frame_cache",
    "InProcess": "evaluators",
    "PointInTime": "frame",
    "Prices": "cost",
    "Processes": "evaluators",
    "Proposal": "walk",
    "SearchPlan": "candidate",
    "Target": "labels",
    "Tracked": "tracking",
    "Trained": "trainer",
    "TrainingFrame": "frame",
    "Trial": "walk",
    "TrialMemory": "trial_memory",
    "Walker": "walk",
    "audit_features": "audit",
    "best_trial": "search",
    "candidate_for": "candidate",
    "default_target": "labels",
    "feast_join": "feast_history",
    "file_version": "dossier",
    "frame_key": "frame_cache",
    "join_features": "frame",
    "label_events": "labels",
    "lay_folds": "folds",
    "meta_labels": "labels",
    "plan_of": "candidate",
    "record_report": "tracking",
    "run_search": "search",
    "search_key": "trial_memory",
    "track": "tracking",
    "train": "trainer",
    "training_slot": "slots",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
