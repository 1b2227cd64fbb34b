"""The results of a run as tables, figures and one self-contained HTML page."""

from .comparison import Column, compare
from .contents import Examples, ReportData, RunData, Triples
from .figures import line_svg
from .grids import grid, overview, png_bytes
from .page import write_report
from .protocol import separate
from .side_by_side import check_replaceable, write_comparison
from .table import rich_table, summary
from .verdict import Verdict, judge
from .words import corruption_in_words, shortened, subject_names
