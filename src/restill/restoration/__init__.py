"""Measurements back to images: by what a teacher knows, and by classical methods to compare with."""

from .compressed_sensing import CompressedSensing, largest_eigenvalue, reconstruct
from .posterior_mean import posterior_mean, shows_image
from .wavelets import Wavelets
from .weight import CANDIDATES, choose_weight, choose_weight_for
