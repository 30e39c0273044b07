"""One HTML page from a run folder alone: no data set, no model, no torch, no network."""

from saddlepoint.report.page import report, write_report

__all__ = ["report", "write_report"]
