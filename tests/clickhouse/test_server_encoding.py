"""Content encodings: bodies come in any pieces and frames, and leave as one frame."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.clickhouse.server.encoding import choose_encoding, decoder, encoder
from atlas.clickhouse.server.failure import QueryFailure

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lz4.frame.compress,
    "zstd": zstandard.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lambda body: lz4.frame.LZ4FrameDecompressor().decompress(body),
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


@pytest.mark.parametrize("name", sorted(COMPRESS))
@given(frames=st.lists(st.binary(max_size=200), max_size=5), piece=st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_decoding_undoes_any_number_of_frames_in_any_pieces(
    name: str, frames: list[bytes], piece: int
) -> None:
    body = b"".join(map(COMPRESS[name], frames))
    reader = decoder(name)
    assert reader is not None
    decoded = b"".join(
        reader.decode(body[start : start + piece]) for start in range(0, len(body), piece)
    )
    reader.finish()
    assert decoded == b"".join(frames)


@pytest.mark.parametrize("name", sorted(COMPRESS))
@given(pieces=st.lists(st.binary(max_size=200), max_size=5))
@settings(max_examples=25, deadline=None)
def test_encoding_makes_one_frame_of_all_pieces(name: str, pieces: list[bytes]) -> None:
    writer = encoder(name)
    body = b"".join([*map(writer.encode, pieces), writer.finish()])
    assert DECOMPRESS[name](body) == b"".join(pieces)


@pytest.mark.parametrize("name", sorted(COMPRESS))
def test_half_a_frame_is_an_error(name: str) -> None:
    reader = decoder(name)
    assert reader is not None
    reader.decode(COMPRESS[name](b"some rows" * 100)[:-3])
    with pytest.raises(QueryFailure, match="inside a compressed frame"):
        reader.finish()


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("br", None),
        ("gzip", "gzip"),
        ("lz4,zstd,br,gzip,deflate", "lz4"),
        ("gzip;q=1.0, ZSTD;q=0.5", "zstd"),
        ("lz4;q=0, gzip", "gzip"),
        ("identity", None),
    ],
)
def test_encoding_is_the_cheapest_that_is_accepted(accepted: str, chosen: str | None) -> None:
    assert choose_encoding(accepted) == chosen
