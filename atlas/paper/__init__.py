"""The paper trader: what emitted signals earned, after costs."""

from atlas.paper.settlement import Settlement, settle

__all__ = ["Settlement", "settle"]
