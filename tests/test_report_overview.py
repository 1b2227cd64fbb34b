"""The picture of a whole run: every subject's grid, under its name."""

from __future__ import annotations

import numpy as np
import torch

from restill.report import grid, overview


def test_holds_every_grid() -> None:
    images = {name: torch.rand(40, 1, 8, 8) * 2 - 1 for name in ("measurements", "student")}
    picture = np.asarray(overview(images, {}))
    assert picture.shape[2] == 3
    for drawn in images.values():
        tile = np.asarray(grid(drawn[:36], min_size=40).convert("RGBA"))
        found = _position(picture, tile)
        assert found is not None
        assert (picture[: found[0]] != 255).any()  # the names above


def _position(picture: np.ndarray, tile: np.ndarray) -> tuple[int, int] | None:
    """Where the opaque pixels of a tile lie in the picture."""
    height, width = tile.shape[:2]
    opaque = tile[..., 3] == 255
    for top in range(picture.shape[0] - height + 1):
        for left in range(picture.shape[1] - width + 1):
            if (picture[top, left] == tile[0, 0, :3]).all():
                window = picture[top : top + height, left : left + width]
                if (window[opaque] == tile[..., :3][opaque]).all():
                    return top, left
    return None
