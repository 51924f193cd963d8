"""What a flow did with its rows: a table in Prefect, one line for each view or source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atlas.errors import TooManyBadRows

__all__ = ["account", "account_of_stop", "run_name", "told"]


def run_name(what: str) -> str:
    """Return what the quarantine calls this run: the work, and Prefect's id of the flow run."""
    from prefect.context import get_run_context
    from prefect.exceptions import MissingContextError

    try:
        context: Any = get_run_context()
    except MissingContextError:
        return what
    found = getattr(context, "flow_run", None) or context.task_run
    return f"{what} {getattr(found, 'flow_run_id', None) or found.id}"


def told(reasons: Sequence[tuple[str, int]]) -> str:
    """Return counted reasons as one line."""
    return "; ".join(f"{reason} ({count:,})" for reason, count in reasons)


def account(key: str, description: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """Leave a table of what became of the rows; inside a flow run it is an artifact.

    Parameters
    ----------
    key : str
        Lower-case letters, digits and dashes; the runs of one key are versions of each other.
    """
    # Imported late: the demo speaks before Prefect has been imported.
    from prefect.artifacts import create_table_artifact
    from prefect.context import FlowRunContext

    if FlowRunContext.get() is not None and lines:
        create_table_artifact(
            table=[dict(line) for line in lines], key=key, description=description
        )


def account_of_stop(stopped: TooManyBadRows) -> dict[str, Any]:
    """Return the counts of a run that met too many bad rows."""
    return {
        "read": stopped.rows,
        "quarantined": stopped.bad,
        "why": told(stopped.reasons),
        "outcome": "stopped",
    }
