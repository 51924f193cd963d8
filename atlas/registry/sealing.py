"""Encryption of artifacts at rest: AES-256 in Galois/Counter Mode, with keys from the environment.

A sealed artifact is a header, twelve random bytes that no other has, and the ciphertext with its
tag. The header names the key, so that a wrong key is told from altered bytes; header and the
artifact's name are authenticated with it, so that two artifacts cannot be swapped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from atlas.errors import ArtifactCorrupt, InvalidSettings

__all__ = ["Keyring", "is_sealed"]

_MAGIC = b"ATLAS-SEALED-1\n"
_KEY_BYTES = 32
_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEADER_BYTES = len(_MAGIC) + _ID_BYTES


class Keyring:
    """The keys of an installation: at most one that seals, and former ones that still open.

    Parameters
    ----------
    key : bytes or None
        32 random bytes; with None nothing is sealed.
    former : sequence of bytes
        Keys that sealed what is still kept.
    """

    def __init__(self, key: bytes | None = None, former: Sequence[bytes] = ()) -> None:
        self._key = key
        self._by_id = {_id_of(each): each for each in (*former, *([key] if key else []))}

    @staticmethod
    def of(key: str | None, former: str | None = None) -> Keyring:
        """Read keys as the environment holds them.

        Parameters
        ----------
        key : str or None
            `ATLAS_ARTIFACT_KEY`: 32 bytes in base64.
        former : str or None
            `ATLAS_FORMER_ARTIFACT_KEYS`: such keys, with commas between.

        Raises
        ------
        InvalidSettings
            If one is no such key. The message does not repeat it.
        """
        olds = [each for each in (former or "").split(",") if each.strip()]
        return Keyring(
            _read(key, "ATLAS_ARTIFACT_KEY") if key and key.strip() else None,
            [_read(each, "ATLAS_FORMER_ARTIFACT_KEYS") for each in olds],
        )

    @property
    def seals(self) -> bool:
        """Whether there is a key to seal with."""
        return self._key is not None

    def seal(self, name: str, data: bytes) -> bytes:
        """Encrypt an artifact under the present key; without one return it as it is."""
        if self._key is None:
            return data
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        header = _MAGIC + _id_of(self._key)
        nonce = os.urandom(_NONCE_BYTES)
        bound = header + name.encode()
        return header + nonce + AESGCM(self._key).encrypt(nonce, data, bound)

    def open(self, name: str, sealed: bytes) -> bytes:
        """Decrypt an artifact that was sealed under this name, by whichever key it says.

        Raises
        ------
        ArtifactCorrupt
            If its key is not at hand, or it is not what was sealed under this name.
        """
        header, rest = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        if not is_sealed(sealed) or len(rest) < _NONCE_BYTES + _TAG_BYTES:
            raise ArtifactCorrupt(
                f"Expected blob {name} whole; found {len(sealed)} bytes, which is too few. "
                "Restore it from a backup, or train the model again."
            )
        key = self._by_id.get(header[len(_MAGIC) :])
        if key is None:
            known = ", ".join(sorted(each.hex() for each in self._by_id)) or "none"
            raise ArtifactCorrupt(
                f"Blob {name} is encrypted with key {header[len(_MAGIC) :].hex()}; the keys at "
                f"hand are {known}. Set ATLAS_ARTIFACT_KEY, or ATLAS_FORMER_ARTIFACT_KEYS for "
                "what was kept under an earlier key."
            )
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, ciphertext = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, ciphertext, header + name.encode())
        except InvalidTag:
            raise ArtifactCorrupt(
                f"Expected blob {name} as it was encrypted; it was altered, or put in the place of "
                "another. Restore it from a backup, and find out who can write to the store."
            ) from None

    def sealed_now(self, kept: bytes) -> bool:
        """Tell whether kept bytes are sealed under the present key."""
        return self._key is not None and kept.startswith(_MAGIC + _id_of(self._key))


def is_sealed(kept: bytes) -> bool:
    """Tell whether kept bytes begin as sealed ones do."""
    return kept.startswith(_MAGIC)


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"atlas artifact key\0" + key).digest()[:_ID_BYTES]


def _read(text: str, variable: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        found = "text that is not base64"
    else:
        if len(key) == _KEY_BYTES:
            return key
        found = f"{len(key)} bytes"
    raise InvalidSettings(
        f"Expected {variable} to be {_KEY_BYTES} bytes in base64; found {found}. Make a key with "
        f"`openssl rand -base64 {_KEY_BYTES}`, and keep a copy where the artifacts are not."
    )
