"""What a frame's values may be, and how bad rows are told from good ones."""

from atlas.schemas.candles import Candles, candles_at
from atlas.schemas.features import LunarFeatures, OhlcvFeatures
from atlas.schemas.split import Split, find_faults, split_valid

__all__ = [
    "Candles",
    "LunarFeatures",
    "OhlcvFeatures",
    "Split",
    "candles_at",
    "find_faults",
    "split_valid",
]
