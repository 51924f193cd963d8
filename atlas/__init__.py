"""Atlas is the machine-learning side of a trading desk, around a feature store."""

__version__ = "0.1.0"
__all__ = ["__version__"]
