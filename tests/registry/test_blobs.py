"""Blobs: what comes out is what went in, or nothing."""

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atlas.registry
from atlas.errors import ArtifactCorrupt, InvalidInput
from atlas.registry import BlobStore

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # A lone surrogate has no bytes.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@settings(max_examples=25, deadline=None)
@given(contents=st.lists(st.binary(max_size=300), max_size=5))
def test_every_blob_is_found_under_its_hash(contents: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = BlobStore(Path(folder))
        names = [store.put(data) for data in contents]
        assert names == [hashlib.sha256(data).hexdigest() for data in contents]
        assert [store.get(name) for name in names] == contents
        assert [name in store for name in names] == [True] * len(names)


@settings(max_examples=25, deadline=None)
@given(value=JSON)
def test_json_is_kept_by_its_content(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = BlobStore(Path(folder))
        assert store.get_json(store.put_json(value)) == value


def test_the_order_of_keys_does_not_change_the_name_of_json(store: BlobStore) -> None:
    assert store.put_json({"a": 1, "b": [2.5]}) == store.put_json({"b": [2.5], "a": 1})


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}, {1, 2}, b"bytes"])
def test_what_is_no_json_is_refused(store: BlobStore, value: Any) -> None:
    with pytest.raises(InvalidInput, match="Expected a value of JSON"):
        store.put_json(value)


@pytest.mark.parametrize("damage", [b"", b"other bytes", b"model byteS"])
def test_damaged_bytes_are_never_returned_and_can_be_put_again(
    store: BlobStore, damage: bytes
) -> None:
    name = store.put(b"model bytes")
    [path] = store.home.folder.glob(f"*/{name}")
    path.write_bytes(damage)
    with pytest.raises(ArtifactCorrupt, match=f"SHA-256 {name}"):
        store.get(name)
    assert store.put(b"model bytes") == name
    assert store.get(name) == b"model bytes"


def test_a_missing_blob_says_which_and_where(store: BlobStore) -> None:
    name = "0" * 64
    assert name not in store
    with pytest.raises(ArtifactCorrupt, match=f"Expected blob {name}.*found none"):
        store.get(name)


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "0" * 63, "A" * 64, "0" * 64 + "/x", "0" * 64 + "\n"]
)
def test_a_name_that_is_no_hash_reaches_no_file(store: BlobStore, name: str) -> None:
    with pytest.raises(InvalidInput, match="SHA-256 in 64"):
        store.get(name)


def test_a_crash_while_writing_leaves_no_blob(store: BlobStore) -> None:
    code = (
        "import os, sys; from pathlib import Path; from atlas.registry import BlobStore\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), 9)\n"
        "BlobStore(Path(sys.argv[1])).put(b'model bytes')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.home.folder)])
    assert done.returncode == -9
    name = hashlib.sha256(b"model bytes").hexdigest()
    assert name not in store
    assert store.put(b"model bytes") == name
    assert store.get(name) == b"model bytes"


def test_a_full_disk_leaves_nothing_behind(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.put(b"model bytes")
    assert [path for path in store.home.folder.rglob("*") if path.is_file()] == []


def test_many_writers_of_one_blob_agree(store: BlobStore) -> None:
    data = bytes(range(256)) * 400
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(store.put(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == [hashlib.sha256(data).hexdigest()] * 8
    assert store.get(names[0]) == data
    assert len([path for path in store.home.folder.rglob("*") if path.is_file()]) == 1


def test_a_worker_that_fetches_blobs_does_not_pay_for_sql() -> None:
    heavy = "{'sqlalchemy', 'feast', 'pandas', 'prefect', 'mlflow', 'sklearn', 'numpy', 'redis'}"
    code = (
        "import sys; from atlas.registry import BlobStore; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_face_of_the_registry_is_what_it_promises() -> None:
    assert atlas.registry.__all__ == sorted(atlas.registry.__all__, key=lambda n: (n.islower(), n))
    assert all(hasattr(atlas.registry, name) for name in atlas.registry.__all__)
