"""What a person states of data: section `data` of a recipe, and the options of `restill import`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..core.errors import UserError
from ..core.kspace_layout import Axes, Shift
from ..core.limits import LIMIT
from ..core.settings import Section, setting, wrong


def _pair(number: type[int] | type[float], form: str) -> BeforeValidator:
    """Two numbers; on the command line they are words with a comma between them, as `form` says."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            first, second = (number(word) for word in value.split(","))
        except ValueError:
            raise ValueError(f"must be {form}, not {value!r}") from None
        return first, second

    return BeforeValidator(read)


_Side = Annotated[int, Field(ge=1)]
_Size = Annotated[tuple[_Side, _Side], Field(strict=False), _pair(int, "H,W, e.g. 128,128")]
_Shifts = Annotated[
    tuple[Shift, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value),
]
_Range = Annotated[tuple[float, float], Field(strict=False), _pair(float, "LOW,HIGH, e.g. 0,4095")]

OF_IMAGES = ("resize", "layout", "range", "sigma_unit", "image_size")
OF_KSPACE = ("axes", "shift", "crop", "coils", "maps", "full", "seed", "tolerance")  # full: a reference that is written


class DataSettings(Section):
    """Where the images come from, and how the files are read.

    `content: clean` images are corrupted by the recipe's corruption (a benchmark); `content: measurements` are taken
    as they are, with the corruption's `sigma_n`, `gain` and the like in `sigma_unit`. Measurements may be multi-coil
    k-space.
    """

    section: ClassVar[str] = "data"

    source: str | None = setting(None, "`digits`, `phantoms`, or the path of a folder, archive, file or store")
    content: Literal["clean", "measurements", "store"] = setting("clean", "what the source holds")
    resize: int | None = setting(None, "crop to the centre square and resize to this side", unit="pixels", ge=1)
    layout: Literal["auto", "NHW", "NHWC", "NCHW"] = setting("auto", "order of the axes of arrays")
    range: _Range | None = setting(None, "values LOW,HIGH that become -1 and 1; found by default", unit="of the files")
    sigma_unit: Literal["data", "normalised"] = setting(
        "data", "unit of sigma_n: that of the files, or that of images in [-1, 1]"
    )
    masks: str | None = setting(
        None,
        "masks, 0 where a value is missing: a folder or file, `nan` for missing pixels that are NaN, or "
        "`nonzero` for k-space that is not 0 where it was measured",
    )
    pairing: Literal["name", "position"] = setting(
        "name", "how masks and noise levels in files find their images: by name, or in the order by number"
    )
    limit: int = setting(LIMIT, "memory that one image of the files may take", unit="MB", ge=1)
    image_size: _Size | None = setting(None, "size H,W of the images, if the operator changes it", unit="pixels")
    axes: Axes | None = setting(
        None, "k-space: axes of arrays; needed for complex arrays of three axes, whose first may be slices or coils"
    )
    shift: _Shifts | None = setting(
        None,
        "k-space: what lies half a size off, image, kspace or both (image,kspace), or along one axis: image-height, "
        "image-width, kspace-height, kspace-width",
    )
    crop: _Size | None = setting(None, "k-space: size H,W of the images", unit="pixels")
    coils: int | None = setting(None, "k-space: number of virtual coils", ge=1)
    maps: str | None = setting(None, "k-space: file with coil sensitivities; estimated by default")
    reference: str | None = setting(None, "store of clean images; only `evaluate` opens it")

    @model_validator(mode="after")
    def _of_measurements(self) -> DataSettings:
        for key in ("masks", "image_size", "axes", "shift", "crop", "coils", "maps"):
            if self.content != "measurements" and getattr(self, key) is not None:
                raise wrong(key, "needs data.content measurements")
        return self

    def stated(self) -> dict[str, str]:
        """What says something else than by default: words by key."""
        fields = type(self).model_fields.items()
        return {name: f"data.{name}" for name, field in fields if getattr(self, name) != field.default}


def check_stated(stated: Mapping[str, str], source: str, is_kspace: bool) -> None:
    """Raises UserError for the first of what is `stated`, words by key, that says nothing of such measurements."""
    what, other = ("k-space", "images") if is_kspace else ("no k-space", "k-space")
    for key, word in stated.items():
        if key in (OF_IMAGES if is_kspace else OF_KSPACE):
            raise UserError(f"{word} is for {other}, but {source} is {what}; leave it out")
