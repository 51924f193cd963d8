"""Feeds into ClickHouse: candle files and frames, and a simulated market."""

from atlas.ingest.batch import Batch, batch_of_frame
from atlas.ingest.files import Discovery, discover, read_candles
from atlas.ingest.load import LoadReport, load_candles
from atlas.ingest.simulate import MarketRecipe, hidden_regimes, simulate

__all__ = [
    "Batch",
    "Discovery",
    "LoadReport",
    "MarketRecipe",
    "batch_of_frame",
    "discover",
    "hidden_regimes",
    "load_candles",
    "read_candles",
    "simulate",
]
