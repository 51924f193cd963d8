"""Deployment: the moves of a model's versions, the strategies that decide, and who carries out."""

from atlas.deployment.desk import Desk, Reconciled, publish_route, reconcile
from atlas.deployment.driver import Driver
from atlas.deployment.observer import BusObserver, Observer
from atlas.deployment.operator import operator_name
from atlas.deployment.strategy import (
    Conclusion,
    Intent,
    Observation,
    Outcome,
    Strategy,
    shadow_then_switch,
)

__all__ = [
    "BusObserver",
    "Conclusion",
    "Desk",
    "Driver",
    "Intent",
    "Observation",
    "Observer",
    "Outcome",
    "Reconciled",
    "Strategy",
    "operator_name",
    "publish_route",
    "reconcile",
    "shadow_then_switch",
]
