"""From labelled history to a judged model version: labels, frames, search, evidence, records."""

from atlas.training.candidate import Candidate, SearchPlan, candidate_for
from atlas.training.dossier import Dossier, file_version
from atlas.training.feast_join import feast_join
from atlas.training.frame import PointInTime, TrainingFrame, join_features
from atlas.training.labels import Target, default_target, label_events
from atlas.training.search import Trial, best_trial, run_search
from atlas.training.tracking import Tracked, record_report, track
from atlas.training.trainer import Trained, train

__all__ = [
    "Candidate",
    "Dossier",
    "PointInTime",
    "SearchPlan",
    "Target",
    "Tracked",
    "Trained",
    "TrainingFrame",
    "Trial",
    "best_trial",
    "candidate_for",
    "default_target",
    "feast_join",
    "file_version",
    "join_features",
    "label_events",
    "record_report",
    "run_search",
    "track",
    "train",
]
