"""The offline store: Feast on ClickHouse, joined as known at the time."""

from atlas.offline.feature_logs import ClickHouseLoggingDestination
from atlas.offline.saved_datasets import SavedDatasetClickHouseStorage
from atlas.offline.source import ClickHouseSource
from atlas.offline.store import ClickHouseOfflineStore, ClickHouseOfflineStoreConfig

__all__ = [
    "ClickHouseLoggingDestination",
    "ClickHouseOfflineStore",
    "ClickHouseOfflineStoreConfig",
    "ClickHouseSource",
    "SavedDatasetClickHouseStorage",
]
