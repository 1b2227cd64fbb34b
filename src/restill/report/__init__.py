"""What a run has shown: tables, figures and one self-contained HTML page."""

from .comparison import Column, Comparison, compare
from .figures import grid, line_svg, overview, png_bytes
from .page import ReportData, write_report
from .table import markdown_summary, markdown_table, rich_table, summary
from .verdict import Verdict, corruption_in_words, judge

__all__ = [
    "Column",
    "Comparison",
    "ReportData",
    "Verdict",
    "compare",
    "corruption_in_words",
    "grid",
    "judge",
    "line_svg",
    "markdown_summary",
    "markdown_table",
    "overview",
    "png_bytes",
    "rich_table",
    "summary",
    "write_report",
]
