"""Whether the ports that a stack wants are free, and who has them if they are not."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

import psutil

from atlas.errors import PortTaken
from atlas.runtime.component import Component

__all__ = ["check_ports"]


def check_ports(components: Iterable[Component], host: str) -> None:
    """Refuse to go on unless every component can listen on its port.

    Raises
    ------
    PortTaken
        If another program listens there, or two components were given the same port. The message
        names each port and the setting that moves it.
    """
    owners: dict[int, Component] = {}
    problems: list[str] = []
    for component in components:
        port = component.port
        if port is None:
            continue
        if port.number in owners:
            other = owners[port.number]
            settings = f"{other.port.setting if other.port else '?'} and {port.setting}"
            problems.append(
                f"Port {port.number} was given to both {other.name} and {component.name}; "
                f"set {settings} to different ports."
            )
        elif (obstacle := _obstacle(host, port.number)) is not None:
            problems.append(
                f"{component.name} needs port {port.number} ({port.setting}), {obstacle} or set "
                f"{port.setting} to a free port."
            )
        owners[port.number] = component
    if problems:
        raise PortTaken(" ".join(problems))


def _obstacle(host: str, port: int) -> str | None:
    """Return what keeps us from listening there and what to do about it, or None."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        # As the servers do: a port whose last connections still linger is free.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"which is taken by {_holder(port)}; end that program"
            return f"which cannot be opened on {host} ({error.strerror}); correct ATLAS_HOST"
    return None


def _holder(port: int) -> str:
    try:
        listeners = [
            each.pid
            for each in psutil.net_connections(kind="tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port
        ]
        pid = next((pid for pid in listeners if pid), None)
        if pid is not None:
            return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        pass  # the system tells this only to the owner of the process
    return "another program"
