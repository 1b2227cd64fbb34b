"""Centre crop to a square and resize."""

from __future__ import annotations

import numpy as np
import PIL.Image
import torch

from .reader import Image


def resize_image(image: Image, size: int) -> Image:
    """The largest centred square of `[C, H, W]`, resized to `[C, size, size]`.

    8-bit images: Lanczos, rounded to 8 bits, as common benchmarks are made. All others: triangle filter with
    antialiasing in float32, which never leaves the range of the data. Nothing is resampled where the square already
    has the size. Resampling correlates noise and makes it smaller: a stated sigma_n must be that of the resized images.
    """
    _, height, width = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[:, top : top + side, left : left + side]
    if side == size:
        return square
    if image.dtype == np.uint8:
        # channel by channel, because Pillow would multiply colours by an alpha channel
        planes = (PIL.Image.fromarray(plane).resize((size, size), PIL.Image.Resampling.LANCZOS) for plane in square)
        return np.stack([np.asarray(plane) for plane in planes])
    x = torch.from_numpy(square.astype(np.float32))[None]
    options = {"mode": "bilinear", "antialias": True, "align_corners": False}
    return torch.nn.functional.interpolate(x, (size, size), **options)[0].numpy()  # type: ignore[arg-type]
