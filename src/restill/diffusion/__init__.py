"""Denoisers: preconditioned networks, and closed forms to check them against."""

from .closed_forms import GaussianDenoiser
from .denoiser import Denoiser

__all__ = ["Denoiser", "GaussianDenoiser"]
