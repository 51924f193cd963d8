"""A folder with copies of the blobs that were fetched last, for when their home does not answer."""

from __future__ import annotations

import os
from pathlib import Path

from atlas.registry.blob_folder import FolderHome
from atlas.telemetry import get_logger

__all__ = ["BlobCache"]

log = get_logger(__name__)


class BlobCache:
    """Keeps the copies that were used last; one that cannot be kept is only fetched again.

    Parameters
    ----------
    folder : Path
        Of this cache alone; it may be deleted at any time.
    most : int
        Copies to keep.
    """

    def __init__(self, folder: Path, *, most: int = 64) -> None:
        self._home = FolderHome(folder)
        self._most = most

    def read(self, name: str) -> bytes | None:
        """Return the copy under a name; None if there is none."""
        try:
            kept = self._home.read(name)
            if kept is not None:
                os.utime(self._home.path_of(name))
        except OSError as error:
            log.warning("blob_not_cached", blob=name, reason=str(error))
            return None
        return kept

    def write(self, name: str, kept: bytes) -> None:
        """Keep a copy, and forget the one that was used longest ago if there are too many."""
        try:
            self._home.write(name, kept)
            paths = [self._home.path_of(each) for each in self._home.names()]
            for path in sorted(paths, key=lambda path: path.stat().st_mtime)[: -self._most]:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("blob_not_cached", blob=name, reason=str(error))
