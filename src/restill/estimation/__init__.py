"""Estimates from the measurements alone: noise level, photon gain and read noise, coil sensitivities, spectrum."""

from .coil_compression import Compressed, calibration_of, compress_coils
from .image_set import ImageSet
from .photon_noise import PoissonGaussianEstimate, estimate_poisson_gaussian
from .sensitivity import calibration_residual, espirit
from .spectrum import RadialPower
from .white_noise import NoiseEstimate, estimate_sigma

__all__ = [
    "Compressed",
    "ImageSet",
    "NoiseEstimate",
    "PoissonGaussianEstimate",
    "RadialPower",
    "calibration_of",
    "calibration_residual",
    "compress_coils",
    "espirit",
    "estimate_poisson_gaussian",
    "estimate_sigma",
]
