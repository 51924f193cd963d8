"""How any view's history is computed: each kind of view in its own way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from clickhouse_connect.driver.client import Client

from atlas.clickhouse import Computed
from atlas.errors import InvalidInput
from atlas.features import FeatureSet, RegimeSet, StoredView
from atlas.materialise.history import compute_history
from atlas.materialise.regimes import compute_regimes
from atlas.registry import BlobStore
from atlas.schemas import ShareLimit

__all__ = ["compute_view"]


def compute_view(
    client: Client,
    view: StoredView,
    *,
    blobs: BlobStore,
    until: datetime,
    since: datetime | None = None,
    symbols: list[str] | None = None,
    on_chunk: Callable[[float], None] = lambda _: None,
    run: str = "",
    limit: ShareLimit | None = None,
) -> Computed:
    """Compute and store a view's rows; those that are stored already are left alone.

    Arguments and errors are those of `compute_history` and `compute_regimes`.

    Parameters
    ----------
    blobs : BlobStore
        Keeps the models of views that have some.
    """
    if isinstance(view, RegimeSet):
        return compute_regimes(
            client,
            view,
            blobs=blobs,
            until=until,
            since=since,
            symbols=symbols,
            on_chunk=on_chunk,
            run=run,
            limit=limit,
        )
    if isinstance(view, FeatureSet):
        return compute_history(
            client,
            view,
            until=until,
            since=since,
            symbols=symbols,
            on_chunk=on_chunk,
            run=run,
            limit=limit,
        )
    raise InvalidInput(f"Expected a feature set or a regime set; found {type(view).__name__}.")
