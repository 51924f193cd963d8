import atlas.schemas


def test_the_names_exported_are_the_names_promised():
    assert sorted(atlas.schemas.__all__) == atlas.schemas.__all__
    assert atlas.schemas.__all__ == [
        "Candles",
        "LunarFeatures",
        "OhlcvFeatures",
        "RegimeFeatures",
        "ShareLimit",
        "Split",
        "Tally",
        "candles_at",
        "find_faults",
        "joined_schema",
        "split_valid",
    ]
    assert all(hasattr(atlas.schemas, name) for name in atlas.schemas.__all__)
