"""Trials on Dask, through Prefect, are the trials of this process."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from labelled_market import candidate, frame

from atlas.errors import InvalidSettings
from atlas.training import train

WANTED = candidate(n_trials=3, batch=3)
has_dask = importlib.util.find_spec("prefect_dask") is not None


@pytest.mark.skipif(has_dask, reason="prefect-dask is installed here.")
def test_without_dask_it_is_said_what_to_install() -> None:
    from flows.dask import on_cluster

    with pytest.raises(InvalidSettings, match="make setup EXTRAS=dask"):
        train(WANTED, frame(), evaluate=on_cluster)


@pytest.mark.skipif(not has_dask, reason="It needs prefect-dask: make setup EXTRAS=dask.")
# Dask's and Prefect's own: sockets and event loops that they leave to be collected.
@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.slow
def test_dask_walks_the_same_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from flows.dask import on_cluster

    monkeypatch.setenv("PYTHONPATH", f"{Path().resolve()}:{Path(__file__).parents[1] / 'training'}")
    with prefect_test_harness(server_startup_timeout=120):
        on_dask = train(WANTED, frame(), evaluate=on_cluster)
    here = train(WANTED, frame())
    assert [trial.returns.tolist() for trial in on_dask.trials] == [
        trial.returns.tolist() for trial in here.trials
    ]
    assert on_dask.engine.dump() == here.engine.dump()
