"""Training frames on disk, by what they were made of: equal decisions over equal stored rows."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import polars as pl

from atlas.schemas import Tally
from atlas.training.candidate import Candidate
from atlas.training.frame import TrainingFrame

__all__ = ["FrameCache", "frame_key"]

# A frame of a year of one-minute bars is some hundred megabytes; the oldest ones go.
_MOST_KEPT = 8


def frame_key(
    candidate: Candidate, events: pl.DataFrame, moments: pl.DataFrame | None, *, stored: str
) -> str:
    """Return a hash of all that a frame depends on.

    Parameters
    ----------
    stored : str
        Hash of the feature rows that may be joined, all versions of them.
    """
    digest = hashlib.sha256(f"{candidate.features.view}|{candidate.service}|{stored}".encode())
    digest.update("|".join(candidate.features.features).encode())
    for rows in (events, moments):
        if rows is not None:
            digest.update("|".join(rows.columns).encode())
            digest.update(rows.hash_rows(seed=0).to_numpy().tobytes())
    return digest.hexdigest()[:32]


class FrameCache:
    """Keeps the frames that were used last; a folder a frame, renamed into place.

    Parameters
    ----------
    folder : Path
        Made when the first frame is put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> TrainingFrame | None:
        """Return the frame of that key, if it is kept whole."""
        path = self._folder / key
        try:
            told = json.loads((path / "frame.json").read_text())
            rows = pl.read_parquet(path / "rows.parquet")
            history = pl.read_parquet(path / "history.parquet") if told["history"] else None
        except (OSError, ValueError, KeyError, pl.exceptions.PolarsError):
            return None
        reasons = tuple((str(why), int(count)) for why, count in told["reasons"])
        frame = TrainingFrame(
            rows=rows,
            features=tuple(told["features"]),
            unusable=told["unusable"],
            tally=Tally(told["judged"], told["bad"], reasons),
            history=history,
        )
        if frame.digest != told["digest"]:
            return None
        os.utime(path)
        return frame

    def put(self, key: str, frame: TrainingFrame) -> None:
        """Keep a frame, and drop those that were not used for longest."""
        fresh, path = self._folder / f"{key}.{os.getpid()}.new", self._folder / key
        fresh.mkdir(parents=True, exist_ok=True)
        frame.rows.write_parquet(fresh / "rows.parquet")
        if frame.history is not None:
            frame.history.write_parquet(fresh / "history.parquet")
        told = {
            "features": frame.features,
            "unusable": frame.unusable,
            "judged": frame.tally.rows,
            "bad": frame.tally.bad,
            "reasons": frame.tally.reasons,
            "history": frame.history is not None,
            "digest": frame.digest,
        }
        (fresh / "frame.json").write_text(json.dumps(told))
        _remove(path)
        os.replace(fresh, path)
        kept = sorted(
            (p for p in self._folder.iterdir() if p.suffix != ".new"),
            key=lambda p: p.stat().st_mtime,
        )
        for old in kept[:-_MOST_KEPT]:
            _remove(old)


def _remove(folder: Path) -> None:
    if folder.is_dir():
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
        folder.rmdir()
