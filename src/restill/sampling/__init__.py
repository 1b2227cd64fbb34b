"""From a denoiser to images."""

from .classes import Classes
from .generate import generate
from .heun import heun, karras_levels
from .reverse import Reverse
from .sampler import Heun, OneStep, Sampler

__all__ = ["Classes", "Heun", "OneStep", "Reverse", "Sampler", "generate", "heun", "karras_levels"]
