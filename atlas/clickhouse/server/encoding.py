"""Content encodings of request and response bodies: lz4, zstd, gzip, deflate."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]
import zstandard

from atlas.clickhouse.server.failure import Code, QueryFailure

__all__ = ["Decoder", "Encoder", "choose_encoding", "decoder", "encoder"]


class Decoder(Protocol):
    """Turns the pieces of an encoded body back; several frames may follow one another."""

    def decode(self, piece: bytes) -> bytes:
        """Return what `piece` adds."""
        ...

    def finish(self) -> None:
        """Raise QueryFailure if the body stopped in the middle of a frame."""
        ...


class Encoder(Protocol):
    """Encodes a body piece by piece, as one frame: clients do not read a second one."""

    def encode(self, piece: bytes) -> bytes:
        """Return what can be sent after `piece`."""
        ...

    def finish(self) -> bytes:
        """Return the end of the frame."""
        ...


def choose_encoding(accepted: str) -> str | None:
    """Pick the cheapest encoding that an Accept-Encoding header admits."""
    offers: dict[str, float] = {}
    for offer in accepted.lower().split(","):
        name, _, parameters = offer.partition(";")
        quality = parameters.strip().removeprefix("q=")
        offers[name.strip()] = float(quality) if _is_number(quality) else 1.0
    return next((name for name in _ENCODERS if offers.get(name, 0) > 0), None)


def encoder(name: str) -> Encoder:
    """Return a new encoder."""
    return _ENCODERS[name]()


def decoder(name: str) -> Decoder | None:
    """Return a new decoder, or None if the body is plain.

    Raises
    ------
    QueryFailure
        If the encoding is not one that the server reads.
    """
    if name in ("", "identity"):
        return None
    make = _DECODERS.get(name)
    if make is None:
        raise QueryFailure.of(
            Code.UNKNOWN_COMPRESSION_METHOD,
            f"Unknown Content-Encoding {name!r}: send one of {', '.join(_DECODERS)}.",
        )
    return make()


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


class _Lz4Encoder:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def encode(self, piece: bytes) -> bytes:
        head = b"" if self._begun else self._frame.begin()
        self._begun = True
        return bytes(head + self._frame.compress(piece))

    def finish(self) -> bytes:
        return self.encode(b"") + bytes(self._frame.flush())


class _ZstdEncoder:
    def __init__(self) -> None:
        self._frame = zstandard.ZstdCompressor(level=1).compressobj()

    def encode(self, piece: bytes) -> bytes:
        return self._frame.compress(piece)

    def finish(self) -> bytes:
        return self._frame.flush()


class _ZlibEncoder:
    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.compressobj(level=1, wbits=window_bits)

    def encode(self, piece: bytes) -> bytes:
        return self._stream.compress(piece)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Frame(Protocol):
    """What the three libraries' decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _FrameDecoder:
    """Reads frame after frame: clients that compress block by block send many."""

    def __init__(self, new_frame: Callable[[], _Frame]) -> None:
        self._new_frame = new_frame
        self._frame: _Frame | None = None

    def decode(self, piece: bytes) -> bytes:
        decoded: list[bytes] = []
        while piece:
            if self._frame is None:
                self._frame = self._new_frame()
            try:
                decoded.append(self._frame.decompress(piece))
            except (RuntimeError, zlib.error, zstandard.ZstdError) as error:
                raise QueryFailure.of(
                    Code.CANNOT_DECOMPRESS, f"Cannot decompress body: {error}"
                ) from error
            if not self._frame.eof:
                break
            piece, self._frame = self._frame.unused_data, None
        return b"".join(decoded)

    def finish(self) -> None:
        if self._frame is not None:
            raise QueryFailure.of(
                Code.CANNOT_DECOMPRESS, "Cannot decompress body: it ends inside a compressed frame."
            )


_ENCODERS: dict[str, Callable[[], Encoder]] = {
    "lz4": _Lz4Encoder,
    "zstd": _ZstdEncoder,
    "gzip": lambda: _ZlibEncoder(zlib.MAX_WBITS | 16),
    "deflate": lambda: _ZlibEncoder(zlib.MAX_WBITS),
}
_DECODERS: dict[str, Callable[[], Decoder]] = {
    "lz4": lambda: _FrameDecoder(lz4.frame.LZ4FrameDecompressor),
    "zstd": lambda: _FrameDecoder(lambda: zstandard.ZstdDecompressor().decompressobj()),
    "gzip": lambda: _FrameDecoder(lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    "deflate": lambda: _FrameDecoder(lambda: zlib.decompressobj(zlib.MAX_WBITS)),
}
