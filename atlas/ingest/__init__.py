"""Feeds into ClickHouse: candle files and frames, and a simulated market."""

from atlas.ingest.batch import Batch, batch_of_frame
from atlas.ingest.files import Discovery, discover, read_candles
from atlas.ingest.load import LoadReport, load_candles

__all__ = [
    "Batch",
    "Discovery",
    "LoadReport",
    "batch_of_frame",
    "discover",
    "load_candles",
    "read_candles",
]
