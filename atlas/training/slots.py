"""At most so many trainings at once on a machine; a slot is free again however its holder ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from atlas.errors import TrainingBusy

__all__ = ["training_slot"]

_PAUSE_S = 0.5


@contextmanager
def training_slot(folder: Path, *, n_slots: int, patience: timedelta) -> Iterator[int]:
    """Hold one of the slots while the block runs, and say which.

    The locks are the operating system's: a process that is killed gives its slot back.

    Parameters
    ----------
    folder : Path
        Where the slots' files lie; made if it is not there.
    patience : timedelta
        How long to wait for a slot.

    Raises
    ------
    TrainingBusy
        If none becomes free in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + patience.total_seconds()
    while True:
        for number in range(n_slots):
            with (folder / f"slot-{number}").open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield number
                return
        if time.monotonic() >= give_up:
            raise TrainingBusy(
                f"Expected fewer than {n_slots} trainings under way; found {n_slots}, and none "
                f"ended within {patience}. Wait, or raise MAX_CONCURRENT_TRAINING_JOBS."
            )
        time.sleep(_PAUSE_S)
