"""What `feast apply` registers: the entity, and a source, a view and a service per view of Atlas.

Names, fields and ages come from `atlas.features`; nothing is typed twice. All of it is in one file
because Feast imports each file by itself: what a second one imported would be registered twice.
"""

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, Int32, String

from atlas.features import StoredView, stored_views
from atlas.offline import ClickHouseSource
from atlas.serving import DEPTH_TAG, ValueKind

__all__ = ["services", "symbol", "views"]

symbol = Entity(
    name="symbol",
    join_keys=["symbol"],
    value_type=ValueType.STRING,
    description="A traded instrument, such as BTC_USDT.",
)


_TYPES = {ValueKind.DOUBLE: Float64, ValueKind.INT32: Int32, ValueKind.STRING: String}


def _view(features: StoredView) -> FeatureView:
    source = ClickHouseSource(
        features.view,
        table=features.view,
        timestamp_field="event_timestamp",
        created_timestamp_column="known_at",
        description=features.description,
    )
    return FeatureView(
        name=features.view,
        entities=[symbol],
        schema=[
            # With its key written out, Feast asks ClickHouse nothing about the view.
            Field(name="symbol", dtype=String),
            *(Field(name=name, dtype=_TYPES[kind]) for name, kind in features.kinds.items()),
        ],
        source=source,
        ttl=features.ttl,
        description=features.description,
        tags={"interval": features.interval.name, DEPTH_TAG: str(features.depth)},
    )


views = {features.view: _view(features) for features in stored_views()}
# A service gives a model numbers; what only tells of a row, such as its model, is in the view.
services = {
    f"direction_{features.view}": FeatureService(
        name=f"direction_{features.view}",
        features=[views[features.view][list(features.features)]],
    )
    for features in stored_views()
}

# Feast registers what it finds under a name of this module.
globals().update(views | services)
