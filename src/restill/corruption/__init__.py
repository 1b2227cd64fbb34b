"""What happened to the images: operators, and the laws that draw them."""

from .corruption import Corruption, corruption_from, corruption_kinds
from .noise import AdditiveNoise
from .operator import Identity, Operator

__all__ = ["AdditiveNoise", "Corruption", "Identity", "Operator", "corruption_from", "corruption_kinds"]
