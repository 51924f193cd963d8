"""The offline store: Feast on ClickHouse, joined as known at the time."""

from atlas.offline.source import ClickHouseSource, SavedDatasetClickHouseStorage
from atlas.offline.store import ClickHouseOfflineStore, ClickHouseOfflineStoreConfig

__all__ = [
    "ClickHouseOfflineStore",
    "ClickHouseOfflineStoreConfig",
    "ClickHouseSource",
    "SavedDatasetClickHouseStorage",
]
