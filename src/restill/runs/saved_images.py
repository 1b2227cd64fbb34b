"""Images on disk: what `restill sample` and the report write."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..checkpoint import NetworkConfig
from ..core.errors import UserError
from ..core.files import replacing
from ..core.tensors import channels_to_complex
from ..core.views import displayed, phase_colours
from ..report import grid, overview, png_bytes


def save_grids(path: Path, images: Tensor, is_complex: bool, missing: Tensor | None = None) -> None:
    """A grid of images `[n, C, H, W]` in normalised units as PNG; what is `missing` has a colour of its own.

    Complex images have a grid of magnitudes, and beside it `NAME-phase.png`, a grid of phases.
    """
    _write(path, png_bytes(grid(displayed(images, is_complex), missing=missing)))
    if is_complex:
        _write(path.with_name(f"{path.stem}-phase.png"), png_bytes(grid(phase_colours(images))))


def save_overview(path: Path, images: Mapping[str, Tensor], missing: Mapping[str, Tensor]) -> None:
    """Grids of several subjects side by side as PNG; what is `missing` of some has a colour of its own."""
    _write(path, png_bytes(overview(images, missing=missing)))


def save_image(folder: Path, index: int, image: Tensor, config: NetworkConfig) -> None:
    """One image `[C, H, W]` as `000123.png`, 8 bits of the value range; for data that is not 8-bit also `000123.npy`.

    The `.npy` holds `[C, H, W]` float32 in the units of the files that the measurements came from. Of a complex image
    it holds complex64 `[H, W]` (`[k, H, W]` if there are several), and the PNG shows the magnitude, from 0 to 1 in
    normalised units.
    """
    if config.complex_values or config.value_range != (0.0, 255.0):
        buffer = io.BytesIO()
        np.save(buffer, _physical(image, config), allow_pickle=False)
        _write(folder / f"{index:06d}.npy", buffer.getvalue())
    image = displayed(image[None], config.complex_values)[0]
    if image.shape[0] in (1, 3, 4):
        pixels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(0, -1).squeeze(-1).numpy()
        _write(folder / f"{index:06d}.png", png_bytes(Image.fromarray(pixels)))


def _physical(image: Tensor, config: NetworkConfig) -> NDArray[np.generic]:
    """One image in the units of the files, complex where it is."""
    physical = (image.double() * config.scale + config.offset).float()
    if not config.complex_values:
        return physical.numpy()
    values = channels_to_complex(physical[None])[0].numpy()
    return values[0] if len(values) == 1 else values


def check_output(folder: Path) -> None:
    """Raises UserError if `folder` is a file or holds anything that is not a sample."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give --out a folder")
    if folder.is_dir() and any(file.suffix not in (".png", ".npy", ".tmp") for file in folder.iterdir()):
        raise UserError(f"{folder}: holds files that are not samples; choose another --out")


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)
