"""Measurements as a recipe or a command states them: of images or of k-space, by a look at the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..io import images_named, is_kspace, open_kspace
from .gaps import masks_from
from .measured_images import MeasuredImages
from .measured_kspace import MeasuredKspace, Told
from .pipeline import Acquisition
from .settings import DataSettings, check_stated
from .stated_noise import SigmaN


def measurements_of(
    data: DataSettings,
    corruption: Mapping[str, Any] | None,
    sigma_n: SigmaN | None = None,
    seed: int = 0,
    told: Told | None = None,
) -> Acquisition:
    """The measurements in the files of `data.source`, images or k-space.

    Args:
        seed, told: for k-space alone.

    Raises:
        UserError: nothing there, nothing that can be read, or settings of the other sort of measurements.
    """
    source = str(data.source)
    kspace = is_kspace(source)
    check_stated(data.stated(), source, kspace)
    if kspace:
        return MeasuredKspace(
            open_kspace(source, data.axes, data.limit), data, corruption, sigma_n, seed=seed, told=told
        )
    images = images_named(source, data.resize, data.layout, data.limit)
    return MeasuredImages(images, sigma_n, data, corruption, masks_from(data))
