"""Features: pure functions over bars, each with its schema and its look-back."""

from atlas.features.catalogue import feature_set, feature_sets
from atlas.features.feature_set import FeatureSet
from atlas.features.lunar import lunar
from atlas.features.ohlcv import ohlcv

__all__ = ["FeatureSet", "feature_set", "feature_sets", "lunar", "ohlcv"]
