"""Denoisers: preconditioned networks, and closed forms to check them against."""

from .closed_forms import ClosedForm, GaussianDenoiser
from .counted import Counted
from .denoiser import Denoiser, NetworkDenoiser, Noisy
from .hand_over import HandedOver
from .preconditioning import Prior

__all__ = ["ClosedForm", "Counted", "Denoiser", "GaussianDenoiser", "HandedOver", "NetworkDenoiser", "Noisy", "Prior"]
