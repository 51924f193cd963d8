"""Finished trials on disk, so that a search that was killed goes on where it was.

A folder a search, named by a hash of all that its trials depend on; a file a trial, renamed into
place. The files are plain arrays and JSON; reading them runs no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import atlas
from atlas.training.candidate import Candidate
from atlas.training.cost import Cost
from atlas.training.frame import TrainingFrame
from atlas.training.walk import Proposal, Trial

__all__ = ["TrialMemory", "search_key"]

_LISTS = ("selection", "in_sample", "out_of_sample")
_ARRAYS = ("selection_trades", "trade_returns", "scores")


def search_key(candidate: Candidate, frame: TrainingFrame) -> str:
    """Return a hash of all that the trials of a search depend on."""
    # How many trials, and how long they may take, changes none of the first ones.
    plan = replace(candidate.search, n_trials=1, time_budget=None)
    plan_said = {**asdict(plan), "startup": candidate.search.n_trials}
    facts = [
        atlas.__version__,
        frame.digest,
        candidate.engine,
        candidate.features.view,
        *(repr(part) for part in (candidate.settled, candidate.costs, candidate.target, plan_said)),
    ]
    return hashlib.sha256("|".join(facts).encode()).hexdigest()[:32]


class TrialMemory:
    """Keeps the trials of one search.

    Parameters
    ----------
    folder : Path
        Of this search alone; made when the first trial is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, proposal: Proposal) -> Trial | None:
        """Return the trial of exactly this proposal, if it was kept whole."""
        try:
            with (
                self._path(proposal.number).open("rb") as file,
                np.load(file, allow_pickle=False) as kept,
            ):
                told = json.loads(str(kept["told"]))
                if told["proposal"] != _said(proposal):
                    return None
                lists = {
                    name: tuple(kept[f"{name}_{i}"] for i in range(told["lengths"][name]))
                    for name in _LISTS
                }
                return Trial(
                    number=proposal.number,
                    parameters=proposal.parameters,
                    threshold=proposal.threshold,
                    selection=lists["selection"],
                    selection_trades=kept["selection_trades"],
                    in_sample=lists["in_sample"],
                    out_of_sample=lists["out_of_sample"],
                    trade_returns=kept["trade_returns"],
                    scores=kept["scores"],
                    pruned=told["pruned"],
                    failure=told["failure"],
                    cost=Cost(**told["cost"]),
                )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            # A file that somebody damaged is no trial; walking it again mends it.
            return None

    def keep(self, trial: Trial, proposal: Proposal) -> None:
        """Keep a finished trial; all of it or nothing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        told = {
            "proposal": _said(proposal),
            "pruned": trial.pruned,
            "failure": trial.failure,
            "cost": {"cpu_s": trial.cost.cpu_s, "gpu_s": trial.cost.gpu_s},
            "lengths": {name: len(getattr(trial, name)) for name in _LISTS},
        }
        arrays: dict[str, Any] = {name: getattr(trial, name) for name in _ARRAYS}
        for name in _LISTS:
            for i, part in enumerate(getattr(trial, name)):
                arrays[f"{name}_{i}"] = part
        path = self._path(trial.number)
        fresh = path.with_suffix(f".{os.getpid()}.new")
        with fresh.open("wb") as file:
            np.savez(file, told=json.dumps(told), **arrays)
        os.replace(fresh, path)

    def forget(self) -> None:
        """Remove what was kept, once the version that came of it is filed."""
        for path in self._folder.glob("trial_*"):
            path.unlink(missing_ok=True)
        if self._folder.is_dir():
            self._folder.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / f"trial_{number:05d}.npz"


def _said(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal in JSON's types, as it comes back from a file."""
    said = {
        "parameters": _plain(proposal.parameters),
        "threshold": proposal.threshold,
        "bars": list(proposal.bars),
    }
    told: dict[str, Any] = json.loads(json.dumps(said))
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value
