"""A folder as the home of blobs; any number of processes may read and write at once."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FolderHome"]

_NAME = re.compile(r"[0-9a-f]{64}")


class FolderHome:
    """Keeps each blob in a file under its name, in one of 256 folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> bytes | None:
        """Return what is kept under a name; None if there is nothing."""
        try:
            return self.path_of(name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, kept: bytes) -> None:
        """Keep bytes, all of them or none; once this returns they survive a crash."""
        path = self.path_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{name[:8]}-", delete=False
        ) as sink:
            try:
                sink.write(kept)
                sink.flush()
                os.fsync(sink.fileno())
                Path(sink.name).replace(path)
            except BaseException:
                Path(sink.name).unlink(missing_ok=True)
                raise
        # The folders hold the name; without this a crash could lose it.
        for folder in (path.parent, self.folder):
            _sync_folder(folder)

    def holds(self, name: str) -> bool:
        """Tell whether anything is kept under a name."""
        return self.path_of(name).is_file()

    def names(self) -> Iterator[str]:
        """Yield the names of all blobs, sorted."""
        found = (path.name for path in self.folder.glob("??/*"))
        yield from sorted(name for name in found if _NAME.fullmatch(name))

    def path_of(self, name: str) -> Path:
        """Return the file of a name."""
        return self.folder / name[:2] / name

    def __str__(self) -> str:
        return str(self.folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
