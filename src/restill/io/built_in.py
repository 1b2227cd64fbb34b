"""Images by the name that a recipe gives them: built-in ones, or files."""

from __future__ import annotations

from .digits import digits
from .files import Layout
from .images import ImageSource, open_images
from .phantoms import phantoms


def images_named(name: str, resize: int | None = None, layout: Layout = "auto") -> ImageSource:
    """`digits`, `phantoms` (drawn with `resize` pixels a side), or what lies at that path (`open_images`)."""
    if name == "digits":
        return digits()
    if name == "phantoms":
        return phantoms() if resize is None else phantoms(resize)
    return open_images(name, resize, layout)
