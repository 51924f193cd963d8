"""The bytes in Redis are Feast's own."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput
from atlas.online import wire

some = settings(max_examples=100, deadline=None, database=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@some
@given(TEXT, TEXT, TEXT)
def test_a_key_is_feasts(join_key: str, value: str, project: str) -> None:
    entity = EntityKey(join_keys=[join_key], entity_values=[Value(string_val=value)])
    expected = serialize_entity_key(entity, 3) + project.encode()
    assert wire.entity_key(wire.key_prefix([join_key]), value, project) == expected


@some
@given(TEXT, TEXT)
def test_a_field_is_feasts(view: str, feature: str) -> None:
    assert wire.feature_field(view, feature) == _mmh3(f"{view}:{feature}")


@some
@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_a_time_is_protobufs_both_ways(micros: int) -> None:
    stamp = Timestamp()
    stamp.FromMicroseconds(micros)
    data = stamp.SerializeToString()
    assert (wire.timestamp_bytes(micros), wire.event_micros(data)) == (data, micros)


def test_nanoseconds_of_other_writers_are_rounded_down() -> None:
    assert wire.event_micros(Timestamp(seconds=1, nanos=1_999).SerializeToString()) == 1_000_001


def test_a_time_beyond_protobuf_is_refused() -> None:
    with pytest.raises(InvalidInput):
        wire.timestamp_bytes(2**64 * 1_000_000)


@some
@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_a_double_is_protobufs_and_nan_is_null(values: list[float]) -> None:
    expected = [
        b"" if np.isnan(value) else Value(double_val=value).SerializeToString() for value in values
    ]
    assert wire.double_rows(np.array([values, values])) == [expected, expected]


@some
@given(TEXT, TEXT, TEXT)
def test_a_key_belongs_to_exactly_its_project(value: str, project: str, before: str) -> None:
    prefix = wire.key_prefix(["symbol"])
    ours = wire.entity_key(prefix, value, project)
    theirs = wire.entity_key(prefix, value, before + project)
    assert [wire.is_key_of(key, prefix, 1, project) for key in (ours, theirs)] == [True, False]


@pytest.mark.parametrize("key", [b"", b"other", wire.key_prefix(["symbol"]) + b"\x02\x00"])
def test_bytes_of_another_kind_belong_to_no_project(key: bytes) -> None:
    assert not wire.is_key_of(key, wire.key_prefix(["symbol"]), 1, "desk")


def test_two_features_with_one_field_are_found() -> None:
    names = [("book", f"f{number}") for number in range(300_000)]
    clash = wire.colliding(names)
    assert clash is not None
    assert clash[0] != clash[1]
    assert wire.feature_field(*clash[0]) == wire.feature_field(*clash[1])


def test_the_same_feature_twice_is_no_collision() -> None:
    assert wire.colliding([("book", "mid"), ("book", "mid")]) is None


def test_what_was_known_before_1970_keeps_its_sign() -> None:
    moment = datetime(1969, 12, 31, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    micros = moment // timedelta(microseconds=1)
    assert int.from_bytes(wire.known_bytes(micros), "little", signed=True) == micros
