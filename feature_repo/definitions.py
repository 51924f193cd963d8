"""What `feast apply` registers: the entity, and a source, a view and a service per feature set.

Names, fields and ages come from `atlas.features`; nothing is typed twice. All of it is in one file
because Feast imports each file by itself: what a second one imported would be registered twice.
"""

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, String

from atlas.features import FeatureSet, feature_sets
from atlas.offline import ClickHouseSource
from atlas.serving import DEPTH_TAG

__all__ = ["services", "symbol", "views"]

symbol = Entity(
    name="symbol",
    join_keys=["symbol"],
    value_type=ValueType.STRING,
    description="A traded instrument, such as BTC_USDT.",
)


def _view(features: FeatureSet) -> FeatureView:
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
            *(Field(name=name, dtype=Float64) for name in features.features),
        ],
        source=source,
        ttl=features.ttl,
        description=features.description,
        tags={"interval": features.interval.name, DEPTH_TAG: str(features.depth)},
    )


views = {features.view: _view(features) for features in feature_sets()}
services = {
    f"direction_{name}": FeatureService(name=f"direction_{name}", features=[view])
    for name, view in views.items()
}

# Feast registers what it finds under a name of this module.
globals().update(views | services)
