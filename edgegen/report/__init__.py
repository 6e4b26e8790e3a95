"""The report of a run: one self-contained HTML file."""

from edgegen.report.render import render_report, write_report

__all__ = ["render_report", "write_report"]
