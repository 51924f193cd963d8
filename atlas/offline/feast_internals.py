"""Every name of Feast that is not public: the one module to check when Feast moves."""

from __future__ import annotations

from feast.feature_logging import LoggingDestination
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.offline_store import (
    OfflineStore,
    RetrievalJob,
    RetrievalMetadata,
)
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.monitoring.monitoring_utils import (
    empty_categorical_metric,
    empty_numeric_metric,
    monitoring_table_meta,
    normalize_monitoring_row,
)
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.protos.feast.core.FeatureService_pb2 import LoggingConfig as LoggingConfigProto
from feast.repo_config import FeastConfigBaseModel
from feast.saved_dataset import SavedDatasetStorage
from feast.utils import (
    _get_requested_feature_views_to_features_dict as features_by_view,
)
from feast.utils import (
    _get_requested_on_demand_feature_views as requested_on_demand_views,
)
from feast.utils import compute_non_entity_date_range

__all__ = [
    "DUMMY_ENTITY_ID",
    "DUMMY_ENTITY_VAL",
    "BaseRegistry",
    "DataSourceProto",
    "FeastConfigBaseModel",
    "LoggingConfigProto",
    "LoggingDestination",
    "OfflineStore",
    "RetrievalJob",
    "RetrievalMetadata",
    "SavedDatasetStorage",
    "compute_non_entity_date_range",
    "empty_categorical_metric",
    "empty_numeric_metric",
    "features_by_view",
    "infer_event_timestamp_from_entity_df",
    "monitoring_table_meta",
    "normalize_monitoring_row",
    "requested_on_demand_views",
]
