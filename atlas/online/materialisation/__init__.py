"""How a view's rows go from ClickHouse to Redis: in columns, by one writer a view, told once.

Nothing here reads or changes Feast's registry but `intervals`, and nothing imports Feast but
`intervals`, `feast_values` and `view_columns`.
"""
