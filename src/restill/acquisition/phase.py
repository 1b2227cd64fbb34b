"""Complex images from magnitudes: a smooth random phase, as transmit field, coil and off-resonance leave it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from ..core.errors import UserError
from ..core.tensors import seeded
from ..io import Image, ImageSource

_STD, _POINTS = 0.7, 4  # radians at each of 4 x 4 control points, between which the phase is bicubic


def with_phase(source: ImageSource, seed: int) -> ImageSource:
    """Images `[2, H, W]`, real and imaginary part, whose magnitudes are those of `source`.

    The phase of image `i` is drawn with `seeded("phase", seed, i)`. Images that have two channels already are complex
    and stay as they are.

    Raises:
        UserError: neither one channel nor two; while iterating, a magnitude below 0.
    """
    channels, height, width = source.shape
    if channels == 2:
        return source
    if channels != 1:
        raise UserError(
            f"{source.name}: has images of {channels} channels; MRI is simulated from magnitudes (one channel) or from "
            "real and imaginary parts (two)"
        )

    def passes() -> Iterator[tuple[str, Image]]:
        for i, (where, image) in enumerate(source.passes()):
            if image.min() < 0:
                raise UserError(f"{where}: holds {image.min():g}; magnitudes are at least 0")
            control = torch.randn(1, 1, _POINTS, _POINTS, generator=seeded("phase", seed, i)) * _STD
            phase = F.interpolate(control, size=(height, width), mode="bicubic", align_corners=True)[0, 0].numpy()
            yield where, (image[0] * np.stack([np.cos(phase), np.sin(phase)])).astype(np.float32)

    value_range = None if source.value_range is None else (-source.value_range[1], source.value_range[1])
    return dataclasses.replace(source, shape=(2, height, width), value_range=value_range, passes=passes)
