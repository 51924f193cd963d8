"""Every name of Feast's online side that is not public: check here when Feast moves."""

from __future__ import annotations

from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores import redis as feast_redis
from feast.infra.online_stores.redis import (
    _versioned_fv_name as stored_view_name,
)
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import (
    _get_entity_key_protos as entity_key_protos,
)
from feast.utils import (
    _get_unique_entities as unique_entities,
)
from feast.utils import (
    _populate_response_from_feature_data as populate_response,
)

__all__ = [
    "DUMMY_ENTITY_ID",
    "EntityKey",
    "FieldStatus",
    "Value",
    "entity_key_protos",
    "feast_redis",
    "populate_response",
    "serialize_entity_key",
    "stored_view_name",
    "unique_entities",
]
