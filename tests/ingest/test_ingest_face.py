import subprocess
import sys

import atlas.ingest


def test_the_names_exported_are_the_names_promised():
    assert atlas.ingest.__all__ == [
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
    assert all(hasattr(atlas.ingest, name) for name in atlas.ingest.__all__)


def test_the_command_is_imported_without_the_engines():
    heavy = ["polars", "pandera", "clickhouse_connect", "scipy", "numpy", "pandas", "redis"]
    code = f"import sys, atlas.cli.ingest; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
