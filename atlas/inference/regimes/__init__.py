"""The regime service: each symbol's regime row by row, steadied, told and kept as a feature."""

from atlas.inference.regimes.service import SIGNATURE_KEY, RegimeService

__all__ = ["SIGNATURE_KEY", "RegimeService"]
