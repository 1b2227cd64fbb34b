"""Images by the name that a recipe gives them: built-in ones, or files."""

from __future__ import annotations

import numpy as np

from ..core.errors import UserError
from ..core.limits import LIMIT
from .arrays import array_source
from .entries import Layout
from .images import ImageSource, check_side, open_images
from .phantoms import phantoms


def images_named(name: str, resize: int | None = None, layout: Layout = "auto", limit: int = LIMIT) -> ImageSource:
    """`digits`, `phantoms` (drawn with `resize` pixels a side), or what lies at that path (`open_images`)."""
    check_side(resize)
    if name == "digits":
        return digits()
    if name == "phantoms":
        return phantoms() if resize is None else phantoms(resize)
    return open_images(name, resize, layout, limit)


def digits() -> ImageSource:
    """1,797 grey images `[1, 8, 8]` with values 0, 1, ..., 16 and ten classes, "0" to "9".

    Raises:
        UserError: scikit-learn is not installed.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("digits: scikit-learn is missing; pip install 'restill[demo]'") from None
    data = load_digits()
    images = np.asarray(data.images, dtype=np.uint8)
    return array_source(images, "digits", value_range=(0.0, 16.0), labels=data.target, classes="0123456789")
