"""The 1,797 handwritten 8x8 digits that come with scikit-learn: real images without a download."""

from __future__ import annotations

import numpy as np

from ..core.errors import UserError
from .arrays import array_source
from .images import ImageSource


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
