"""A store of bytes that are named by their own SHA-256: a name can hold one content only.

The name is that of the plain bytes, also where they are kept encrypted, so a manifest does not
change with the key. Where they are kept is the home's business: a folder, or a bucket.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from atlas.errors import ArtifactCorrupt, InvalidInput, InvalidSettings, StoreUnavailable
from atlas.registry.blob_folder import FolderHome
from atlas.registry.sealing import Keyring, is_sealed

if TYPE_CHECKING:
    from atlas.config import Settings
    from atlas.registry.blob_cache import BlobCache

__all__ = ["BlobHome", "BlobStore", "Resealed", "open_blobs"]

_NAME = re.compile(r"[0-9a-f]{64}")


class BlobHome(Protocol):
    """Where blobs are kept, as they are: sealed or plain. `str` of it tells a person where."""

    def read(self, name: str) -> bytes | None:
        """Return what is kept under a name; None if there is nothing."""
        ...

    def write(self, name: str, kept: bytes) -> None:
        """Keep bytes under a name, all of them or none."""
        ...

    def holds(self, name: str) -> bool:
        """Tell whether anything is kept under a name."""
        ...

    def names(self) -> Iterator[str]:
        """Yield the names of all blobs."""
        ...


@dataclass(frozen=True, slots=True)
class Resealed:
    """What became of the blobs of a store when they were sealed anew."""

    changed: int
    unchanged: int
    refused: tuple[str, ...]
    """Why some were left alone: they are damaged, or under a key that is not at hand."""


class BlobStore:
    """Blobs in their home; any number of processes may put and get at once.

    Parameters
    ----------
    home : BlobHome or Path
        Where they are kept; a path is a folder.
    keys : Keyring, optional
        Seals what is put, and opens what is got. Plain blobs are read with keys as well.
    cache : BlobCache, optional
        Copies of what was got, sealed as in their home: got from there first.
    """

    def __init__(
        self,
        home: BlobHome | Path,
        *,
        keys: Keyring | None = None,
        cache: BlobCache | None = None,
    ) -> None:
        self.home: BlobHome = FolderHome(home) if isinstance(home, Path) else home
        self._keys = keys or Keyring()
        self._cache = cache

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their name; once this returns they survive a crash.

        Bytes that are there already are left alone, unless they were damaged or are not sealed by
        the present key.
        """
        name = hashlib.sha256(data).hexdigest()
        kept = self.home.read(name)
        if kept is None or not self._kept_well(name, kept):
            self.home.write(name, self._keys.seal(name, data))
        return name

    def get(self, name: str) -> bytes:
        """Return the bytes of that name.

        Raises
        ------
        ArtifactCorrupt
            If there are none, they are not what the name promises, or their key is not at hand.
        StoreUnavailable
            If their home does not answer, and there is no copy here.
        """
        _checked(name)
        copy = self._cache.read(name) if self._cache else None
        if copy is not None and self._kept_well(name, copy):
            return self._opened(name, copy)
        try:
            data = self._opened(name, self.home.read(name))
        except StoreUnavailable:
            # A copy that today's key did not seal is still the right bytes.
            if copy is None or not self._opens(name, copy):
                raise
            return self._opened(name, copy)
        if self._cache is not None:
            self._cache.write(name, self._keys.seal(name, data))
        return data

    def put_json(self, value: Any) -> str:
        """Keep a JSON value in its canonical form (sorted keys, no spaces, no NaN)."""
        try:
            text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"Expected a value of JSON, without NaN or infinity; found: {error}."
            ) from error
        return self.put(text.encode())

    def get_json(self, name: str) -> Any:
        """Return the JSON value of that name; otherwise as `get`."""
        return json.loads(self.get(name))

    def reseal(self) -> Resealed:
        """Seal every blob with the present key: those kept plain, and those under a former key."""
        changed, unchanged, refused = 0, 0, []
        for name in self.home.names():
            kept = self.home.read(name)
            try:
                data = self._opened(name, kept)
            except ArtifactCorrupt as error:
                refused.append(str(error))
                continue
            if kept is not None and self._kept_well(name, kept):
                unchanged += 1
            else:
                self.home.write(name, self._keys.seal(name, data))
                changed += 1
        return Resealed(changed, unchanged, tuple(refused))

    def __contains__(self, name: str) -> bool:
        return self.home.holds(_checked(name))

    def _kept_well(self, name: str, kept: bytes) -> bool:
        """Tell whether bytes are whole, and sealed as they would be today."""
        if hashlib.sha256(kept).hexdigest() == name:
            return not self._keys.seals
        return self._keys.sealed_now(kept) and self._opens(name, kept)

    def _opens(self, name: str, kept: bytes) -> bool:
        try:
            self._opened(name, kept)
        except ArtifactCorrupt:
            return False
        return True

    def _opened(self, name: str, kept: bytes | None) -> bytes:
        if kept is None:
            raise ArtifactCorrupt(
                f"Expected blob {name} in {self.home}; found none. Restore it from a backup, or "
                "train the model again."
            )
        found = hashlib.sha256(kept).hexdigest()
        if found == name:
            return kept
        if is_sealed(kept):
            return self._keys.open(name, kept)
        raise ArtifactCorrupt(
            f"Expected bytes with SHA-256 {name} in {self.home}; found {len(kept)} bytes with "
            f"{found}. Restore the blob from a backup, or roll back to another version."
        )


def open_blobs(settings: Settings) -> BlobStore:
    """Return the store of models' bytes that the settings name: where it is, and its keys.

    Raises
    ------
    InvalidSettings
        If a key is none, or the address leads nowhere.
    """
    keys = Keyring.of(settings.artifact_key, settings.former_artifact_keys)
    if settings.blobs_url is None:
        return BlobStore(settings.blobs, keys=keys)
    from atlas.registry.aws_signature import Credentials
    from atlas.registry.blob_bucket import BucketHome
    from atlas.registry.blob_cache import BlobCache

    key_id, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    if not key_id or not secret:
        raise InvalidSettings(
            "Expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for ATLAS_BLOBS_URL; found "
            f"{'only one' if key_id or secret else 'neither'}. Set both: files under ~/.aws and "
            "the roles of machines are not read."
        )
    home = BucketHome(
        settings.blobs_url,
        credentials=Credentials(key_id, secret, settings.aws_session_token),
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
    )
    return BlobStore(home, keys=keys, cache=BlobCache(settings.home / "blob-cache"))


def _checked(name: str) -> str:
    # Also keeps a name from a manifest inside the home.
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"Expected a SHA-256 in 64 small hex digits; found {name!r}.")
    return name
