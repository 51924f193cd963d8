"""Who is at the terminal: the name that goes into the logs of deployments and halts."""

from __future__ import annotations

import getpass
import socket

__all__ = ["operator_name"]


def operator_name() -> str:
    """Return the person at this terminal, as `user@machine`."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
