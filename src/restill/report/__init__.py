"""What a run has shown: tables, figures and one self-contained HTML page."""

from .comparison import Column, Comparison, compare
from .contents import ComparisonData, Measurements, ReportData, RunData
from .figures import line_svg
from .grids import grid, overview, png_bytes
from .page import write_report
from .protocol import separate
from .side_by_side import check_replaceable, write_comparison
from .table import markdown_summary, markdown_table, rich_table, summary
from .verdict import Verdict, judge
from .words import corruption_in_words, shortened, subject_names

__all__ = [
    "Column",
    "Comparison",
    "ComparisonData",
    "Measurements",
    "ReportData",
    "RunData",
    "Verdict",
    "check_replaceable",
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
    "separate",
    "shortened",
    "subject_names",
    "summary",
    "write_comparison",
    "write_report",
]
