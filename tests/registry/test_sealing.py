"""Encrypted blobs: no altered byte passes, no two can be swapped, and keys can be changed."""

import base64
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from atlas.cli import app
from atlas.config import load_settings
from atlas.errors import ArtifactCorrupt, InvalidSettings
from atlas.registry import BlobStore, Resealed, open_blobs
from atlas.registry.sealing import Keyring

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
DATA = b"the bytes of a model"
KEY_BYTES = st.binary(min_size=32, max_size=32)


def path_of(store: BlobStore, name: str) -> Path:
    folder: Path = store.home.folder  # type: ignore[attr-defined]
    return folder / name[:2] / name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def store(folder: Path) -> BlobStore:
    return BlobStore(folder, keys=Keyring(KEY))


@given(key=KEY_BYTES, data=st.binary(max_size=300))
def test_what_is_sealed_opens_under_its_name_and_no_other(key: bytes, data: bytes) -> None:
    keys, name = Keyring(key), hashlib.sha256(data).hexdigest()
    sealed = keys.seal(name, data)
    assert Keyring(None, [key]).open(name, sealed) == data
    with pytest.raises(ArtifactCorrupt, match="in the place of another"):
        keys.open(hashlib.sha256(name.encode()).hexdigest(), sealed)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=64), where=st.integers(0), flip=st.integers(1, 255))
def test_any_altered_byte_is_refused(data: bytes, where: int, flip: int) -> None:
    keys, name = Keyring(KEY), hashlib.sha256(data).hexdigest()
    home = _Memory({name: keys.seal(name, data)})
    kept = bytearray(home.kept[name])
    kept[where % len(kept)] ^= flip
    home.kept[name] = bytes(kept)
    with pytest.raises(ArtifactCorrupt):
        BlobStore(home, keys=keys).get(name)


@given(cut=st.integers(0, 200), more=st.binary(max_size=3))
def test_no_part_of_a_sealed_blob_is_taken_for_the_whole(cut: int, more: bytes) -> None:
    keys, name = Keyring(KEY), hashlib.sha256(DATA).hexdigest()
    sealed = keys.seal(name, DATA)
    altered = sealed[: cut % len(sealed)] + more
    with pytest.raises(ArtifactCorrupt):
        BlobStore(_Memory({name: altered}), keys=keys).get(name)


def test_nothing_of_the_content_is_on_the_disk_and_the_name_is_that_of_the_plain_bytes(
    store: BlobStore,
) -> None:
    name = store.put(DATA)
    assert name == hashlib.sha256(DATA).hexdigest()
    assert DATA[:8] not in path_of(store, name).read_bytes()
    assert store.get(name) == DATA


def test_the_same_bytes_are_never_sealed_alike(store: BlobStore) -> None:
    first = path_of(store, store.put(DATA)).read_bytes()
    path_of(store, hashlib.sha256(DATA).hexdigest()).unlink()
    assert path_of(store, store.put(DATA)).read_bytes() != first


def test_two_blobs_that_were_swapped_are_refused(store: BlobStore) -> None:
    one, two = store.put(b"one"), store.put(b"two")
    a, b = path_of(store, one), path_of(store, two)
    kept = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(kept)
    for name in (one, two):
        with pytest.raises(ArtifactCorrupt, match="in the place of another"):
            store.get(name)


def test_a_wrong_key_is_told_from_altered_bytes(store: BlobStore, folder: Path) -> None:
    name = store.put(DATA)
    with pytest.raises(ArtifactCorrupt, match=r"is encrypted with key .*; the keys at hand are"):
        BlobStore(folder, keys=Keyring(OTHER)).get(name)
    with pytest.raises(ArtifactCorrupt, match="the keys at hand are none"):
        BlobStore(folder).get(name)


def test_plain_blobs_are_read_with_a_key_and_sealed_when_put_again(
    store: BlobStore, folder: Path
) -> None:
    name = BlobStore(folder).put(DATA)
    assert store.get(name) == DATA
    store.put(DATA)
    assert DATA not in path_of(store, name).read_bytes()


def test_what_was_kept_under_a_former_key_is_read_and_sealed_anew(folder: Path) -> None:
    plain, former = BlobStore(folder), BlobStore(folder, keys=Keyring(KEY))
    names = [plain.put(b"plain"), former.put(b"former"), former.put(b"damaged")]
    path_of(plain, names[2]).write_bytes(b"other bytes")
    now = BlobStore(folder, keys=Keyring(OTHER, [KEY]))
    names.append(now.put(b"now"))
    assert now.get(names[1]) == b"former"

    done = now.reseal()

    assert (done.changed, done.unchanged, len(done.refused)) == (2, 1, 1)
    assert names[2] in done.refused[0]
    only_new = BlobStore(folder, keys=Keyring(OTHER))
    assert [only_new.get(names[i]) for i in (0, 1, 3)] == [b"plain", b"former", b"now"]
    assert now.reseal() == Resealed(0, 3, done.refused)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (base64.b64encode(b"short" * 3).decode(), "15 bytes"),
        (base64.b64encode(KEY + b"x").decode(), "33 bytes"),
        ("not base64: geheim!", "text that is not base64"),
        ("ключ", "text that is not base64"),
        (KEY.hex(), "48 bytes"),
    ],
)
def test_a_key_that_is_none_is_refused_and_not_printed(
    tmp_path: Path, text: str, found: str
) -> None:
    for name in ("artifact_key", "former_artifact_keys"):
        with pytest.raises(InvalidSettings, match=f"ATLAS_.* found {found}") as caught:
            open_blobs(load_settings({}, home=tmp_path, **{name: text}))
        assert text not in str(caught.value) + repr(caught.value.__cause__)


def test_the_settings_do_not_show_keys(tmp_path: Path) -> None:
    key = base64.b64encode(KEY).decode()
    shown = load_settings({}, home=tmp_path, artifact_key=key, former_artifact_keys=key)
    assert key not in repr(shown) + str(shown)


def test_a_key_from_the_environment_is_changed_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATLAS_HOME", str(tmp_path))
    first, second = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    monkeypatch.setenv("ATLAS_ARTIFACT_KEY", first)
    name = open_blobs(load_settings()).put(DATA)
    monkeypatch.setenv("ATLAS_ARTIFACT_KEY", second)

    refused = CliRunner().invoke(app, ["blobs", "encrypt"])
    monkeypatch.setenv("ATLAS_FORMER_ARTIFACT_KEYS", first)
    changed = CliRunner().invoke(app, ["blobs", "encrypt"])
    monkeypatch.delenv("ATLAS_FORMER_ARTIFACT_KEYS")

    assert refused.exit_code == 1
    assert "Left alone" in refused.output
    assert (changed.exit_code, changed.output) == (0, "1 encrypted, 0 were so already.\n")
    assert open_blobs(load_settings()).get(name) == DATA


class _Memory:
    """A home that forgets."""

    def __init__(self, kept: dict[str, bytes]) -> None:
        self.kept = kept

    def read(self, name: str) -> bytes | None:
        return self.kept.get(name)
