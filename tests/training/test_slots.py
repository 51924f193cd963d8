"""At most so many trainings at once, and a killed one gives its slot back."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from atlas.errors import TrainingBusy
from atlas.training import training_slot

HOLD = """
import sys, time
from datetime import timedelta
from pathlib import Path
from atlas.training.slots import training_slot
with training_slot(Path(sys.argv[1]), n_slots=1, patience=timedelta(0)):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_training_too_many_is_told_so(tmp_path: Path) -> None:
    none = timedelta(0)
    with (
        training_slot(tmp_path, n_slots=2, patience=none) as first,
        training_slot(tmp_path, n_slots=2, patience=none) as second,
    ):
        assert {first, second} == {0, 1}
        with (
            pytest.raises(TrainingBusy, match="MAX_CONCURRENT_TRAINING_JOBS"),
            training_slot(tmp_path, n_slots=2, patience=none),
        ):
            pass
    with training_slot(tmp_path, n_slots=2, patience=none) as again:
        assert again == 0


def test_a_killed_training_gives_its_slot_back(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(TrainingBusy),
            training_slot(tmp_path, n_slots=1, patience=timedelta(0)),
        ):
            pass
        holder.kill()
    with training_slot(tmp_path, n_slots=1, patience=timedelta(seconds=5)) as slot:
        assert slot == 0
