"""Noise that nobody has stated: its level, or its gain and read noise, estimated from the measurements."""

from .gaussian import NoiseEstimate, estimate_sigma, estimate_sigma_of
from .poisson import PoissonGaussianEstimate, estimate_poisson_gaussian, estimate_poisson_gaussian_of

__all__ = [
    "NoiseEstimate",
    "PoissonGaussianEstimate",
    "estimate_poisson_gaussian",
    "estimate_poisson_gaussian_of",
    "estimate_sigma",
    "estimate_sigma_of",
]
