"""How xgboost is kept alone in a serving process, and nowhere else."""

import subprocess
import sys

import pytest

import atlas.engines

SERVE = """
import sys
finders = list(sys.meta_path)
from atlas.engines import import_xgboost_alone, load_engine, XGBoostEngine, Dataset
early = {"xgboost", "onnxruntime", "torch", "onnx", "scipy", "numba"} & set(sys.modules)
assert not early, f"importing atlas.engines imports {early}"
import_xgboost_alone()
assert sys.meta_path == finders, "something is still kept out"
import numpy as np
X = np.arange(40.0).reshape(20, 2)
data = Dataset(X, np.where(np.arange(20) % 2, 1, -1), features=("a", "b"),
               intervals=np.zeros((20, 2), int), symbols=["S"] * 20)
engine = load_engine("xgboost", XGBoostEngine(n_rounds=2).fit(data).dump())
engine.score(X.astype("f4"))
heavy = {"pandas", "sklearn", "feast", "mlflow", "prefect", "torch", "polars", "pyarrow"}
print(sorted(heavy & set(sys.modules)))
"""

TRAIN = """
import sys, threading
from atlas.engines import import_xgboost_alone
def other():
    import pandas
thread = threading.Thread(target=other)
thread.start()
import_xgboost_alone()
thread.join()
import pandas, xgboost
frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [0.0, 1.0]})
print(xgboost.DMatrix(frame).feature_names)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (SERVE, "[]"),
        (TRAIN, "['a', 'b']"),
    ],
    ids=["serving", "pandas-in-another-thread"],
)
def test_pandas_is_kept_out_of_the_asking_import_only(code: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (said, "")


def test_the_face_of_the_engines_is_what_it_promises() -> None:
    assert set(atlas.engines.__all__) == {
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
    }
