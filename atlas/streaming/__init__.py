"""Live features: bars as they close, through the same functions as history, to both stores."""

from atlas.streaming.live import LiveFeatures
from atlas.streaming.replay import ReplayPlan, play, read_plan, wind_back, write_plan
from atlas.streaming.tail import Tail

__all__ = ["LiveFeatures", "ReplayPlan", "Tail", "play", "read_plan", "wind_back", "write_plan"]
