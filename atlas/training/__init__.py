"""From labelled history to a judged model version: labels, frames, search, evidence, records."""

from atlas.training.audit import Audit, audit_features
from atlas.training.candidate import Candidate, SearchPlan, candidate_for, plan_of
from atlas.training.cost import Cost, Prices
from atlas.training.dossier import Dossier, file_version
from atlas.training.evaluators import InProcess, Processes
from atlas.training.feast_join import feast_join
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
