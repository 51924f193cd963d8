"""A store of bytes that are named by their own SHA-256: a name can hold one content only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from atlas.errors import ArtifactCorrupt, InvalidInput

__all__ = ["BlobStore"]

_NAME = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """A folder of blobs; any number of processes may put and get at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their name; once this returns they survive a crash.

        Bytes that are there already are left alone, unless they were damaged.
        """
        name = hashlib.sha256(data).hexdigest()
        path = self._path(name)
        if self._holds(path, name):
            return name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{name[:8]}-", delete=False
        ) as sink:
            try:
                sink.write(data)
                sink.flush()
                os.fsync(sink.fileno())
                Path(sink.name).replace(path)
            except BaseException:
                Path(sink.name).unlink(missing_ok=True)
                raise
        # The folders hold the name; without this a crash could lose it.
        for folder in (path.parent, self.folder):
            _sync_folder(folder)
        return name

    def get(self, name: str) -> bytes:
        """Return the bytes of that name.

        Raises
        ------
        ArtifactCorrupt
            If there are none, or they are not what the name promises.
        """
        path = self._path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ArtifactCorrupt(
                f"Expected blob {name} in {self.folder}; found none. Restore it from a backup, or "
                "train the model again."
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if found != name:
            raise ArtifactCorrupt(
                f"Expected bytes with SHA-256 {name} in {path}; found {len(data)} bytes with "
                f"{found}. Restore the blob from a backup, or roll back to another version."
            )
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

    def __contains__(self, name: str) -> bool:
        return self._path(name).is_file()

    def _path(self, name: str) -> Path:
        # Also keeps a name from a manifest inside the folder.
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"Expected a SHA-256 in 64 small hex digits; found {name!r}.")
        return self.folder / name[:2] / name

    @staticmethod
    def _holds(path: Path, name: str) -> bool:
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == name


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
