"""What Feast puts around a retrieval: on-demand views, request columns, services with aliases."""

from collections.abc import Callable

import pandas as pd
import pytest
from feast import FeatureService, FeatureStore, FeatureView, Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

from atlas.errors import InvalidInput

Asked = Callable[..., pd.DataFrame]

# Feast says so of every on-demand view.
pytestmark = pytest.mark.filterwarnings("ignore:On demand feature view is an experimental")


@pytest.fixture
def scaled(store: FeatureStore, prices: FeatureView) -> FeatureStore:
    """The store with a view that scales the close by a number of the request."""
    request = RequestSource(name="request", schema=[Field(name="scale", dtype=Float64)])

    @on_demand_feature_view(
        sources=[prices, request], schema=[Field(name="scaled", dtype=Float64)], mode="pandas"
    )
    def scaling(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"scaled": inputs["close"] * inputs["scale"]})

    store.apply([scaling])
    return store


def test_on_demand_features_get_their_inputs_and_the_requests_columns(
    scaled: FeatureStore, asked: Asked
) -> None:
    entities = asked(("ETH", "00:02:00"), ("DOGE", "00:02:00")).assign(scale=[10.0, 1.0])
    found = scaled.get_historical_features(entities, ["scaling:scaled"]).to_arrow()
    # The input comes along, as Feast has it.
    assert found.drop_columns(["event_timestamp"]).to_pydict() == {
        "symbol": ["ETH", "DOGE"],
        "scale": [10.0, 1.0],
        "close": [3.0, None],
        "volume": [30.0, None],
        "scaled": [30.0, None],
    }


def test_on_demand_features_are_not_streamed(scaled: FeatureStore, asked: Asked) -> None:
    entities = asked(("ETH", "00:02:00")).assign(scale=[10.0])
    job = scaled.get_historical_features(entities, ["scaling:scaled"])
    with pytest.raises(InvalidInput, match="on-demand views scaling"):
        job.to_arrow_batches()


def test_a_service_joins_one_view_twice_under_aliases(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    legs = FeatureService(
        name="legs",
        features=[
            prices[["close"]].with_name("long_leg").with_join_key_map({"symbol": "long"}),
            prices[["close"]].with_name("short_leg").with_join_key_map({"symbol": "short"}),
        ],
    )
    store.apply([legs])
    entities = asked(("ETH", "00:02:00"), ("BTC", "00:02:00"))
    entities = entities.rename(columns={"symbol": "long"}).assign(short=["BTC", "DOGE"])
    found = store.get_historical_features(
        entities, store.get_feature_service("legs"), full_feature_names=True
    ).to_arrow()
    assert (found["long_leg__close"].to_pylist(), found["short_leg__close"].to_pylist()) == (
        [3.0, 2.0],
        [2.0, None],
    )
