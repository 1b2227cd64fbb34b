"""Checks for problems that metrics of sets of images cannot detect."""

from .data_consistency import data_consistency, data_consistency_check
from .hidden import hidden_check, hidden_share
from .memorisation import memorisation, memorisation_check, twin_check, twin_share
from .residuals import residuals, residuals_check
