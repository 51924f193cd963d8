"""Regimes as a feature: walk-forward refits of a jump model, and its online filter between them.

A row says what a desk that ran then would have said. Each refit sees only what was known before
it; between refits the online filter reads bar after bar. The offline path, in which later rows
decide on earlier states, is used nowhere here.
"""

from atlas.regimes.checkpoint import Carried, Checkpoint, blob_of, refit_of
from atlas.regimes.follow import follow, without_regime
from atlas.regimes.live import Change, LiveRegime, Moved, RegimeRow, Rows
from atlas.regimes.refit import Evidence, fit, gather
from atlas.regimes.steady import Held, Steadied, Steadier, SteadyRules
from atlas.regimes.tracker import Tracker
from atlas.regimes.walk import refit_before, refits, walk_forward

__all__ = [
    "Carried",
    "Change",
    "Checkpoint",
    "Evidence",
    "Held",
    "LiveRegime",
    "Moved",
    "RegimeRow",
    "Rows",
    "Steadied",
    "Steadier",
    "SteadyRules",
    "Tracker",
    "blob_of",
    "fit",
    "follow",
    "gather",
    "refit_before",
    "refit_of",
    "refits",
    "walk_forward",
    "without_regime",
]
