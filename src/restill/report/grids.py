"""Pictures as PNG: grids of images, and images beside each other."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..core.errors import UserError

_GAP = 2  # pixels between images
MISSING = (86, 112, 168)  # a blue that no grey image holds, as dark as its middle grey


def grid(
    images: Tensor,
    columns: int | None = None,
    min_size: int = 32,
    missing: Tensor | None = None,
) -> Image.Image:
    """Images side by side, row by row; transparent between them.

    Args:
        images: `[n, C, H, W]` in normalised units, clipped to [-1, 1], black to white. One channel is grey, three are
            RGB; any other number is shown in grey as a mosaic, about a square. Complex images are given as views
            (`core/views.py`).
        columns: per row; by default about a square.
        min_size: small images are enlarged by the smallest integer that brings their longer side to this many pixels.
        missing: where nothing was measured, bool `[n, C, H, W]` or `[n, 1, H, W]`: shown in a blue of its own, where
            all channels of a pixel are missing; a channel that is missing alone is shown as its value.

    Raises:
        UserError: no images, or values that are not finite.
    """
    images = images.detach().cpu().double()
    if images.ndim != 4 or not images.numel():
        raise UserError(f"a grid shows images [n, C, H, W], not {list(images.shape)}")
    if not bool(torch.isfinite(images).all()):
        raise UserError("a grid cannot show images with NaN or infinite values")
    gaps = None if missing is None else missing.detach().cpu().all(dim=1, keepdim=True)
    if images.shape[1] not in (1, 3):
        gaps = None if gaps is None else _mosaic(gaps.expand(images.shape).double(), 0.0) > 0.5
        images = _mosaic(images, -1.0)
    pixels = ((images + 1) / 2).clamp(0, 1).mul(255).round().byte().movedim(1, -1)
    if gaps is not None:
        pixels = torch.where(gaps.movedim(1, -1), torch.tensor(MISSING, dtype=torch.uint8), pixels)
    return _tile(pixels, columns or math.ceil(math.sqrt(len(pixels))), min_size)


def _mosaic(images: Tensor, blank: float) -> Tensor:
    """Channels beside and below each other: `[n, C, H, W]` to `[n, 1, rows H, columns W]`."""
    channels = images.shape[1]
    columns = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / columns)
    missing = images.new_full((len(images), rows * columns - channels, *images.shape[2:]), blank)
    tiles = torch.cat([images, missing], dim=1).unflatten(1, (rows, columns))
    return tiles.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)[:, None]


def overview(images: Mapping[str, Tensor], missing: Mapping[str, Tensor]) -> Image.Image:
    """Grids of several subjects side by side on white, each under its name; at most 36 images of each.

    Args:
        missing: of some subjects, as in `grid`.

    Raises:
        UserError: as `grid`.
    """
    margin, title = 16, 28
    gaps = {name: where[:36] for name, where in missing.items()}
    grids = {name: grid(drawn[:36], min_size=40, missing=gaps.get(name)) for name, drawn in images.items()}
    width = sum(tile.width for tile in grids.values()) + margin * (len(grids) + 1)
    height = max(tile.height for tile in grids.values()) + title + margin
    canvas = Image.new("RGB", (width, height), "white")
    draw, left = ImageDraw.Draw(canvas), margin
    for name, tile in grids.items():
        draw.text((left, 6), name, fill="black", font_size=16)
        rgba = tile.convert("RGBA")
        canvas.paste(rgba, (left, title), rgba)
        left += tile.width + margin
    return canvas


def _tile(pixels: Tensor, columns: int, min_size: int) -> Image.Image:
    """Enlarge and arrange `[n, H, W, 1 or 3]` bytes."""
    scale = max(1, math.ceil(min_size / max(pixels.shape[1:3])))
    height, width = (size * scale for size in pixels.shape[1:3])
    rows = math.ceil(len(pixels) / columns)
    mode = "LA" if pixels.shape[-1] == 1 else "RGBA"
    size = (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP)
    canvas = Image.new(mode, size, (0,) * len(mode))
    for k, picture in enumerate(pixels.squeeze(-1).numpy()):
        cell = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
        canvas.paste(cell.convert(mode), (k % columns * (width + _GAP), k // columns * (height + _GAP)))
    return canvas


def png_bytes(image: Image.Image) -> bytes:
    """An image as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """A PNG as a `data:` address, which needs no file and no network."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
