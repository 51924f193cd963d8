"""What a frame's values may be, and how bad rows are told from good ones."""

from atlas.schemas.candles import Candles, candles_at
from atlas.schemas.features import (
    LunarFeatures,
    OhlcvFeatures,
    RegimeFeatures,
    joined_schema,
)
from atlas.schemas.share import ShareLimit, Tally
from atlas.schemas.split import Split, find_faults, split_valid

__all__ = [
    "Candles",
    "LunarFeatures",
    "OhlcvFeatures",
    "RegimeFeatures",
    "ShareLimit",
    "Split",
    "Tally",
    "candles_at",
    "find_faults",
    "joined_schema",
    "split_valid",
]
