"""Models: what an engine learns from, what it can do, and the engines there are."""

from atlas.engines.alone import import_xgboost_alone
from atlas.engines.boosting import XGBoostEngine
from atlas.engines.catalogue import ENGINES, engine_class, load_engine
from atlas.engines.dataset import Dataset, FloatArray, Task
from atlas.engines.engine import Engine, StreamingEngine, predict_rows
from atlas.engines.ensemble import EnsembleEngine
from atlas.engines.features import check_features
from atlas.engines.jump import JumpModel
from atlas.engines.jump_engine import JumpEngine
from atlas.engines.jump_filter import JumpFilter
from atlas.engines.lstm import LSTMEngine
from atlas.engines.profiles import Profile, profile_of
from atlas.engines.transformer import TransformerEngine
from atlas.engines.windows import History, Windows

__all__ = [
    "ENGINES",
    "Dataset",
    "Engine",
    "EnsembleEngine",
    "FloatArray",
    "History",
    "JumpEngine",
    "JumpFilter",
    "JumpModel",
    "LSTMEngine",
    "Profile",
    "StreamingEngine",
    "Task",
    "TransformerEngine",
    "Windows",
    "XGBoostEngine",
    "check_features",
    "engine_class",
    "import_xgboost_alone",
    "load_engine",
    "predict_rows",
    "profile_of",
]
