"""Features: pure functions over bars, each with its schema and its look-back; and regimes."""

from atlas.features.catalogue import feature_set, feature_sets, stored_view, stored_views
from atlas.features.feature_set import FeatureSet
from atlas.features.lunar import lunar
from atlas.features.ohlcv import ohlcv
from atlas.features.regimes import RegimeInput, RegimeRecipe, RegimeSet, regime
from atlas.features.stored_view import StoredView

__all__ = [
    "FeatureSet",
    "RegimeInput",
    "RegimeRecipe",
    "RegimeSet",
    "StoredView",
    "feature_set",
    "feature_sets",
    "lunar",
    "ohlcv",
    "regime",
    "stored_view",
    "stored_views",
]
