"""The worker: feature rows in, signals out, thin and asynchronous."""

from atlas.inference.main import run
from atlas.inference.worker import Worker

__all__ = ["Worker", "run"]
