"""Which failures of a task are worth another try: those of a store, never those of the input."""

from __future__ import annotations

from typing import Any

from atlas.errors import AtlasError, StoreUnavailable

__all__ = ["STORE_TASK", "worth_another_try"]


def worth_another_try(task: Any, run: Any, state: Any) -> bool:
    """Tell Prefect whether to retry; a file that cannot be read will not be readable in 2 s."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StoreUnavailable) or not isinstance(error, AtlasError)


STORE_TASK: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 2,
    "retry_condition_fn": worth_another_try,
}
"""Options of every task that talks to a store."""
