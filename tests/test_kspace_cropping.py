"""Which samples were measured, and maps on a coarser grid, by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kspace import SIZE, lines, measured
from restill.acquisition.cropping import cropped_maps, detected, whole_axes


def test_a_sample_is_missing_where_it_is_zero_in_all_coils() -> None:
    """A coil that is broken, or of which some lines are, leaves the others measured."""
    k = measured(1, 3)[0] * lines()
    k[1] = 0
    k[2, :, ::2] = 0
    assert np.array_equal(detected(k), lines()[None])


@pytest.mark.parametrize("width", [8, 9, 11, 12, 17])
def test_coarser_maps_keep_the_place_of_everything(width: int) -> None:
    """Of maps that are linear: pixel `r` of `n` lies where `(r - n // 2) N / n + N // 2` lay."""
    ramp = torch.arange(SIZE[1], dtype=torch.float64).expand(2, *SIZE).to(torch.complex128)
    found = cropped_maps(ramp, lines()[None], (SIZE[0], width))
    place = (np.arange(width) - width // 2) * SIZE[1] / width + SIZE[1] // 2
    assert found.shape == (2, SIZE[0], width)
    inside = (place >= 0) & (place <= SIZE[1] - 1)
    np.testing.assert_allclose(found[1, 3].real.numpy()[inside], place[inside], rtol=1e-6)
    assert inside.sum() >= width - 1


def test_a_run_of_lines_is_a_resolution_only_if_it_is_half_of_all() -> None:
    """Zeros that scanners fill in at the edges are no gaps; a few centre lines alone are undersampling."""
    for kept, whole in ((24, True), (12, True), (11, False), (4, False)):
        mask = np.abs(np.arange(24) - 12 + (kept % 2 == 0) / 2) < kept / 2
        assert mask.sum() == kept and whole_axes(mask[None]) == (True, whole)
    assert whole_axes(lines()[None]) == (True, False)
