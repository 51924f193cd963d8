"""Models: what an engine learns from, what it can do, and the engines there are."""

from atlas.engines.alone import import_xgboost_alone
from atlas.engines.boosting import XGBoostEngine
from atlas.engines.dataset import Dataset, FloatArray
from atlas.engines.engine import ENGINES, Engine, load_engine
from atlas.engines.features import check_features

__all__ = [
    "ENGINES",
    "Dataset",
    "Engine",
    "FloatArray",
    "XGBoostEngine",
    "check_features",
    "import_xgboost_alone",
    "load_engine",
]
