"""The runtime: components, start levels, supervision, and the local stack that they make up."""

from atlas.runtime.component import Component, Port, Probe, levels, with_needs
from atlas.runtime.health import ConnectedProbe, HttpProbe, RedisProbe, TcpProbe
from atlas.runtime.report import StackReport, report
from atlas.runtime.runner import Patience
from atlas.runtime.stack import (
    POOL,
    environment,
    local_stack,
    supervise,
    write_environment,
)
from atlas.runtime.state import ComponentState, State, read_states
from atlas.runtime.supervisor import Supervisor

__all__ = [
    "POOL",
    "Component",
    "ComponentState",
    "ConnectedProbe",
    "HttpProbe",
    "Patience",
    "Port",
    "Probe",
    "RedisProbe",
    "StackReport",
    "State",
    "Supervisor",
    "TcpProbe",
    "environment",
    "levels",
    "local_stack",
    "read_states",
    "report",
    "supervise",
    "with_needs",
    "write_environment",
]
