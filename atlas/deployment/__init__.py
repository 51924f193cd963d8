"""Deployment: the moves of a model's versions, the strategies that decide, and who carries out."""

from atlas.deployment.desk import Desk, Reconciled, publish_route, reconcile
from atlas.deployment.driver import Driver
from atlas.deployment.following import Followed, await_workers
from atlas.deployment.observation import Conclusion, Intent, Observation, Outcome, Strategy
from atlas.deployment.observer import BusObserver, Observer
from atlas.deployment.operator import operator_name
from atlas.deployment.strategies import STRATEGIES, blue_green, canary, rolling, shadow, switch
from atlas.deployment.terms import Terms

__all__ = [
    "STRATEGIES",
    "BusObserver",
    "Conclusion",
    "Desk",
    "Driver",
    "Followed",
    "Intent",
    "Observation",
    "Observer",
    "Outcome",
    "Reconciled",
    "Strategy",
    "Terms",
    "await_workers",
    "blue_green",
    "canary",
    "operator_name",
    "publish_route",
    "reconcile",
    "rolling",
    "shadow",
    "switch",
]
