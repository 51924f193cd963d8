"""A desk's own engine, imported by its dotted path: it fails on whatever displeases it."""

from typing import ClassVar

import numpy as np

from atlas.engines import XGBoostEngine


class Moody(XGBoostEngine):
    """As XGBoost, but it raises on every second row; its training never met one."""

    name: ClassVar[str] = "moody_engine:Moody"

    def score(self, rows):
        if (np.asarray(rows)[:, 0] < 0.0).any():
            raise ZeroDivisionError("a return below zero")
        return super().score(rows)
