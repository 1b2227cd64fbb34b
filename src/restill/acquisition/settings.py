"""What a person states of data: section `data` of a recipe, and the options of `restill import`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.errors import UserError
from ..core.settings import Section, setting, wrong

_Size = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], Field(strict=False)]
_Range = Annotated[tuple[float, float], Field(strict=False)]


class DataSettings(Section):
    """Where the images come from, and how the files are read.

    `content: clean` images are corrupted by the recipe's corruption (a benchmark); `content: measurements` are taken
    as they are, with the corruption's `sigma_n`, `gain` and the like in `sigma_unit`. Measurements may be multi-coil
    k-space.
    """

    section: ClassVar[str] = "data"
    of_images: ClassVar[tuple[str, ...]] = ("resize", "layout", "range", "sigma_unit", "image_size")
    of_kspace: ClassVar[tuple[str, ...]] = ("crop", "coils", "maps")
    of_measurements: ClassVar[tuple[str, ...]] = ("masks", "range", "image_size", *of_kspace)

    source: str | None = setting(None, "`digits`, `phantoms`, or the path of a folder, archive, file or store")
    content: Literal["clean", "measurements", "store"] = setting("clean", "what the source holds")
    resize: int | None = setting(None, "crop to the centre square and resize to this side", unit="pixels", ge=1)
    layout: Literal["auto", "NHW", "NHWC", "NCHW"] = setting("auto", "order of the axes of arrays")
    range: _Range | None = setting(None, "values LOW,HIGH that become -1 and 1; found by default", unit="of the files")
    sigma_unit: Literal["data", "normalised"] = setting(
        "data", "unit of sigma_n: of the files, or of images in [-1, 1]"
    )
    masks: str | None = setting(
        None, "masks, 0 where a value is missing: a folder or file, or `nan` for missing pixels that are NaN"
    )
    image_size: _Size | None = setting(None, "size H,W of the images, if a function changes it", unit="pixels")
    crop: _Size | None = setting(None, "k-space: size H,W of the images", unit="pixels")
    coils: int | None = setting(None, "k-space: number of virtual coils", ge=1)
    maps: str | None = setting(None, "k-space: file with coil sensitivities; estimated by default")
    reference: str | None = setting(None, "store of clean images, which only `evaluate` opens")

    @model_validator(mode="after")
    def _of_measurements(self) -> DataSettings:
        for key in self.of_measurements:
            if self.content != "measurements" and getattr(self, key) is not None:
                raise wrong(key, "goes with data.content measurements")
        return self

    def stated(self) -> list[str]:
        """Keys that say something else than their defaults."""
        return [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]


def check_stated(
    stated: Iterable[str],
    source: str,
    is_kspace: bool,
    named: str = "data.{}",
    more_of_images: Sequence[str] = (),
    more_of_kspace: Sequence[str] = (),
) -> None:
    """Refuse what says nothing of such measurements.

    Args:
        stated: keys that a person wrote; `named` says how.
        more_of_images, more_of_kspace: keys beside those of `DataSettings`.

    Raises:
        UserError: names the first key that is for the other sort of measurements.
    """
    of_images, of_kspace = (*DataSettings.of_images, *more_of_images), (*DataSettings.of_kspace, *more_of_kspace)
    given = next((key for key in stated if key in (of_images if is_kspace else of_kspace)), None)
    if given is not None:
        what, other = ("k-space", "images") if is_kspace else ("no k-space", "k-space")
        raise UserError(f"{named.format(given)} is for {other}, but {source} is {what}; leave it out")
