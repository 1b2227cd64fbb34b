"""The section `data` of a recipe: where the images come from, and what they are."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ..core.settings import Section, setting, wrong


class DataSettings(Section):
    """Where the images come from.

    Clean ones are corrupted by the recipe's corruption (a benchmark); measurements are taken as they are, with the
    corruption's `sigma_n`, `gain` and the like in `sigma_unit`, and may be multi-coil k-space.
    """

    section = "data"

    source: str | None = setting(
        None, "`digits` (of scikit-learn), `phantoms`, a folder, archive or array file, or a store"
    )
    content: Literal["clean", "measurements", "store"] = setting("clean", "what lies there")
    resize: int | None = setting(None, "side to which the centre square is resized", gt=0, unit="pixels")
    sigma_unit: Literal["data", "normalised"] = setting(
        "data", "unit of sigma_n: of the files, or of images in [-1, 1]"
    )
    masks: str | None = setting(None, "of measurements: a folder or file with a mask each, or nan")
    image_size: tuple[int, int] | None = setting(
        None, "of the images that a user's operator measured: height, width", strict=False, unit="pixels"
    )
    crop: tuple[int, int] | None = setting(None, "of k-space: height, width of the images", strict=False, unit="pixels")
    coils: int | None = setting(None, "of k-space: number of virtual coils", gt=0)
    maps: str | None = setting(None, "of k-space: coil sensitivities; null estimates them")
    reference: str | None = setting(None, "store of clean images, opened by evaluate alone")

    @model_validator(mode="after")
    def _of_measurements(self) -> DataSettings:
        for key in ("masks", "image_size", "crop", "coils", "maps"):
            if self.content != "measurements" and getattr(self, key) is not None:
                raise wrong(key, "goes with data.content measurements")
            if isinstance(getattr(self, key), tuple) and min(getattr(self, key)) < 1:
                raise wrong(key, "must be positive")
        return self
