"""The reports: what was decided, why, and what it earned, for people."""

from atlas.reporting.gate_page import report_html, report_markdown, write_gate_page
from atlas.reporting.page import Judged, Observed, RunReport, write_report

__all__ = [
    "Judged",
    "Observed",
    "RunReport",
    "report_html",
    "report_markdown",
    "write_gate_page",
    "write_report",
]
