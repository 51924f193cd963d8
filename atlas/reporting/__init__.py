"""The run report: one HTML page that says what was decided, why, and what it earned."""

from atlas.reporting.page import Judged, Observed, RunReport, write_report

__all__ = ["Judged", "Observed", "RunReport", "write_report"]
