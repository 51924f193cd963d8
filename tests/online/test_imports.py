"""The worker's side of the online store stays light."""

import subprocess
import sys

import atlas.online

HEAVY = ("feast", "pandas", "prefect", "mlflow", "sklearn", "torch", "polars", "pydantic")


def test_the_reader_and_the_writer_load_nothing_heavy() -> None:
    code = (
        "import sys; from atlas.online import OnlineReader, OnlineWriter, Status, Vectors; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_names_exported_are_the_names_promised() -> None:
    assert [name for name in atlas.online.__all__ if not hasattr(atlas.online, name)] == []
