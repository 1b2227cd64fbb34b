"""How k-space may lie in a file, in the words that a user states it with."""

from __future__ import annotations

from typing import Literal

Axes = Literal["slices,coils,height,width", "slices,height,width", "coils,height,width", "height,width"]
"""The axes of an array of k-space; what is not among them is 1."""

Shift = Literal["image", "image-height", "image-width", "kspace", "kspace-height", "kspace-width"]
"""What lies half a size off along both axes, or along one: the images, or the frequencies."""
