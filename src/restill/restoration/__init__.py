"""Classical reconstructions of measurements, to compare learned ones with."""

from .compressed_sensing import compressed_sensing, largest_eigenvalue, reconstruct
from .wavelets import Wavelets
from .weight import CANDIDATES, WeightChoice, choose_weight, choose_weight_for

__all__ = [
    "CANDIDATES",
    "Wavelets",
    "WeightChoice",
    "choose_weight",
    "choose_weight_for",
    "compressed_sensing",
    "largest_eigenvalue",
    "reconstruct",
]
