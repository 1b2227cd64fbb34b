"""Denoisers: preconditioned networks, and closed forms to check them against."""

from .denoiser import Denoiser
from .gaussian import GaussianDenoiser

__all__ = ["Denoiser", "GaussianDenoiser"]
