"""Missing pixels in pictures: a colour that no image holds, where nothing was measured and nowhere else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from restill.report import grid
from restill.report.figures_of_images import _reduced
from restill.report.grids import MISSING
from test_report_page import data, page


def test_missing_pixels_have_a_colour_of_their_own(tmp_path: Path) -> None:
    missing = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    missing[0, 0, 0, 1] = missing[1, 0, 1, 0] = True
    for channels in (1, 3, 4):
        images = torch.zeros(2, channels, 2, 2)
        picture = np.asarray(grid(images, columns=2, min_size=2, missing=missing).convert("RGB"))
        size = 4 if channels == 4 else 2  # a mosaic of 2 x 2 channels
        tiles = picture[:, :size], picture[:, size + 2 :]
        for tile, where in zip(tiles, missing[:, 0].numpy(), strict=True):
            expected = np.tile(where, (size // 2, size // 2))
            np.testing.assert_array_equal((tile == MISSING).all(axis=2), expected)
            np.testing.assert_array_equal((tile == 128).all(axis=2), ~expected)
    one_channel = torch.zeros(2, 3, 2, 2, dtype=torch.bool)
    one_channel[:, 0] = True
    assert not (np.asarray(grid(torch.zeros(2, 3, 2, 2), missing=one_channel))[..., :3] == MISSING).all(axis=2).any()
    images = {"measurements": torch.zeros(2, 1, 2, 2)}
    text = page(tmp_path / "report.html", dataclasses.replace(data(), images=images, missing=missing))
    assert "Missing pixels are blue." in text


def test_large_images_with_gaps_are_reduced_over_what_was_measured() -> None:
    images, missing = torch.full((1, 1, 4, 4), 0.5), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    missing[0, 0, 0, 0] = missing[0, 0, 2:, 2:] = False
    images[missing] = 0.0
    reduced, gaps, factor = _reduced(images, 4, missing)
    assert factor == 2 and gaps is not None
    assert gaps[0, 0].tolist() == [[False, True], [True, False]]
    assert reduced[0, 0].tolist() == [[0.5, 0.0], [0.0, 0.5]]
