"""Damaged and hostile ONNX models: refused in one sentence before the runtime sees them."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from untrained import FEATURES, SMALL, SMALL_LSTM, untrained

from atlas.engines import LSTMEngine, TransformerEngine, load_engine
from atlas.engines.onnx_model import Graph, read_onnx
from atlas.engines.protowire import read_fields, write_float, write_integer, write_text
from atlas.errors import ArtifactCorrupt


@pytest.fixture(scope="module", params=SMALL, ids=["lstm", "transformer"])
def engine(request: pytest.FixtureRequest) -> Any:
    build, given_ = request.param
    return untrained(build, **given_)[0]


def test_a_model_as_it_was_written_is_read_back(engine: Any) -> None:
    text, weights = read_onnx(engine.dump())
    said = json.loads(text)
    assert (said["engine"], said["features"]) == (engine.name, list(FEATURES))
    shapes = engine._net(3).shapes()
    sizes = {name: weights[name].size for name in shapes}
    assert sizes == {name: int(np.prod(shape)) for name, shape in shapes.items()}


def test_the_runtime_finds_what_was_written(engine: Any) -> None:
    inputs = {value.name: value.shape for value in engine._session.get_inputs()}
    assert inputs["rows"][-1] == 3
    assert "score" in {value.name for value in engine._session.get_outputs()}
    assert "atlas" in engine._session.get_modelmeta().custom_metadata_map


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_changed_byte_goes_unseen(data: st.DataObject) -> None:
    model = MODEL
    at = data.draw(st.integers(0, len(model) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != model[at]))
    with pytest.raises(ArtifactCorrupt, match=r"Expected .* found"):
        LSTMEngine.load(model[:at] + bytes([other]) + model[at + 1 :])


MODEL = untrained(LSTMEngine, **SMALL_LSTM)[0].dump()


def with_nodes(*nodes: bytes, before: bool = False) -> bytes:
    """Return the model with more in its graph, all lengths set right."""
    fields = [
        (number, bytes(value) if isinstance(value, memoryview) else value)
        for number, value in read_fields(memoryview(MODEL))
    ]
    out = b""
    for number, value in fields:
        if number == 7:
            value = b"".join((*nodes, value)) if before else b"".join((value, *nodes))
        out += write_integer(number, value) if isinstance(value, int) else write_text(number, value)
    return out


def node(operator: str, *, domain: str = "") -> bytes:
    parts = write_text(1, "rows") + write_text(2, "x") + write_text(4, operator)
    return write_text(1, parts + (write_text(7, domain) if domain else b""))


def outside(path: str) -> bytes:
    """Return a weight that lies in another file."""
    where = write_text(13, write_text(1, "location") + write_text(2, path))
    head = write_integer(1, 3) + write_integer(2, 1) + write_text(8, "stolen")
    return write_text(5, head + where + write_integer(14, 1))


HOSTILE = {
    "an operator of another domain": with_nodes(node("Run", domain="com.evil")),
    "a python operator": with_nodes(node("PyOp", domain="ai.onnx.contrib"), before=True),
    "one node more": with_nodes(node("Identity")),
    "a weight in another file": with_nodes(outside("/etc/passwd")),
    "a second graph": MODEL + write_text(7, b""),
    "a function": MODEL + write_text(25, write_text(1, "f")),
    "a second text": MODEL + write_text(14, write_text(1, "atlas") + write_text(2, "{}")),
    "no graph": write_integer(1, 8),
    "a form of old": b"\x0b",
}


def test_the_model_is_taken_apart_and_put_together_right() -> None:
    assert with_nodes() == MODEL


@pytest.mark.parametrize("what", HOSTILE)
def test_what_the_engine_did_not_write_is_refused(what: str) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"Expected .* found"):
        load_engine("lstm", HOSTILE[what])


def said_with(**changes: Any) -> bytes:
    """Return a model whose text makes other claims about the same weights."""
    text, weights = read_onnx(MODEL)
    said = json.loads(text)
    said["hyperparameters"].update(changes.pop("hyperparameters", {}))
    return Graph(weights).encode(json.dumps({**said, **changes}, sort_keys=True))


@pytest.mark.parametrize(
    "claim",
    [
        {"hyperparameters": {"units": [10**12, 4]}},
        {"hyperparameters": {"units": [-6, 4]}},
        {"hyperparameters": {"units": "64"}},
        {"hyperparameters": {"units": []}},
        {"hyperparameters": {"units": 6}},
        {"hyperparameters": {"task": "odds"}},
        {"hyperparameters": {"colour": "red"}},
        {"hyperparameters": {"sequence": None}},
        {"features": []},
        {"features": 3},
        {"features": ["a", "b", "c", "d"]},
        {"engine": "transformer"},
        {"hyperparameters": {}, "digest": "00"},
    ],
    ids=str,
)
def test_claims_that_the_weights_do_not_bear_out_are_refused(claim: dict[str, Any]) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"Expected .* found"):
        LSTMEngine.load(said_with(**claim))


def test_a_transformer_is_no_lstm() -> None:
    other = untrained(TransformerEngine, **SMALL[1][1])[0].dump()
    with pytest.raises(ArtifactCorrupt):
        LSTMEngine.load(other)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    engine, weights = untrained(LSTMEngine, **SMALL_LSTM)
    weights["head"][0] = bad
    with pytest.raises(ArtifactCorrupt, match="not finite"):
        LSTMEngine.load(engine._encode(engine._net(3), weights))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_make_the_reader_fail_in_another_way(data: bytes) -> None:
    with pytest.raises(ArtifactCorrupt):
        LSTMEngine.load(data)


def test_fields_are_those_of_the_published_examples() -> None:
    # protobuf.dev, "Encoding": field 1 = 150, and field 2 = "testing".
    assert write_integer(1, 150) == bytes.fromhex("089601")
    assert write_text(2, "testing") == bytes.fromhex("120774657374696e67")
    assert write_float(2, 1.0) == bytes.fromhex("150000803f")
    data = memoryview(bytes.fromhex("089601120774657374696e67150000803f"))
    fields = [(n, v if isinstance(v, int) else bytes(v)) for n, v in read_fields(data)]
    assert fields == [(1, 150), (2, b"testing"), (2, b"\0\0\x80?")]


WITHOUT = """
import sys
for name in ("torch", "onnx"):
    sys.modules[name] = None
import numpy as np
from atlas.engines import Dataset, LSTMEngine, TransformerEngine, load_engine
from atlas.errors import AtlasError
assert "onnxruntime" not in sys.modules, "importing atlas.engines imports onnxruntime"
engine = load_engine("lstm", open(sys.argv[1], "rb").read(), features=("a", "b", "c"))
assert engine.score(np.zeros((2, 7, 3), "f4")).shape == (2,)
X = np.arange(60.0).reshape(20, 3)
data = Dataset(X, np.where(np.arange(20) % 2, 1, -1), features=("a", "b", "c"),
               intervals=np.column_stack([np.arange(20)] * 2), symbols=["S"] * 20)
for other in (LSTMEngine(), TransformerEngine()):
    try:
        other.fit(data)
    except AtlasError as error:
        print(error)
heavy = {"pandas", "sklearn", "feast", "mlflow", "prefect", "polars", "pyarrow", "scipy", "numba"}
print(sorted(heavy & set(sys.modules)))
"""


def test_without_torch_a_model_is_served_and_training_says_what_to_install(tmp_path: Any) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(path)], capture_output=True, text=True
    )
    said = (
        "Expected torch to train the engine '{}'; found none. Install it with: "
        "pip install 'atlas-desk[deep]'. Loading and scoring work without it."
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [said.format("lstm"), said.format("transformer"), "[]"]
