"""A checkpoint's bytes: exact, without code, refused when they are damaged."""

import hashlib
import json

import pytest
from planted import RECIPE, versions

from atlas.errors import ArtifactCorrupt, InvalidInput
from atlas.regimes import Carried, Checkpoint, blob_of, refit_of, walk_forward


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return walk_forward(versions(200), RECIPE)[1][-1]


def test_it_comes_back_to_the_bit(checkpoint: Checkpoint) -> None:
    again = Checkpoint.load(checkpoint.dump())
    assert again.dump() == checkpoint.dump()
    assert isinstance(again.carried, Carried)
    assert again.model.dump() == checkpoint.model.dump()


def test_the_stamp_tells_the_refit_and_the_bytes(checkpoint: Checkpoint) -> None:
    assert refit_of(checkpoint.stamp) == checkpoint.refit_at
    assert blob_of(checkpoint.stamp) == hashlib.sha256(checkpoint.dump()).hexdigest()


def test_later_refits_have_later_stamps() -> None:
    stamps = [each.stamp for each in walk_forward(versions(400), RECIPE)[1]]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == 14


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts: facts.pop("mean"),
        lambda facts: facts.update(format="atlas-regime/0"),
        lambda facts: facts.update(model="{}"),
        lambda facts: facts.update(carried=[1]),
        lambda facts: facts.update(refit_us="soon"),
        lambda facts: facts.update(more=1),
        lambda facts: facts.update(refit_us=10**30),
    ],
)
def test_damaged_bytes_are_refused(checkpoint: Checkpoint, damage) -> None:
    facts = json.loads(checkpoint.dump())
    damage(facts)
    with pytest.raises(ArtifactCorrupt, match="Expected a"):
        Checkpoint.load(json.dumps(facts, sort_keys=True).encode())


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"\x80\x04", b'"text"'])
def test_what_is_no_checkpoint_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactCorrupt, match="Expected a regime checkpoint"):
        Checkpoint.load(data)


@pytest.mark.parametrize("stamp", ["", "41", "20240101T000000.000000Z-abc"])
def test_what_is_no_stamp_is_refused(stamp: str) -> None:
    with pytest.raises(InvalidInput, match="Expected the stamp of a regime model"):
        blob_of(stamp)
