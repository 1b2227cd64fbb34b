"""How the input and the output of a network are scaled: as Gaussian images would ask for."""

from . import coils  # registers itself
from .posterior import Posterior, posterior, whiten
from .prior import Prior, Shrinkage

__all__ = ["Posterior", "Prior", "Shrinkage", "coils", "posterior", "whiten"]
