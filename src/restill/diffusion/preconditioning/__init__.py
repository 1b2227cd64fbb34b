"""How the input and the output of a network are scaled: by what would be known of Gaussian images."""

from . import coils  # registers itself
from .posterior import Posterior, posterior, whiten
from .prior import Prior, Shrinkage

__all__ = ["Posterior", "Prior", "Shrinkage", "coils", "posterior", "whiten"]
