"""From a denoiser to images."""

from .generate import generate
from .heun import heun, karras_levels
from .sampler import Heun, OneStep, Sampler

__all__ = ["Heun", "OneStep", "Sampler", "generate", "heun", "karras_levels"]
