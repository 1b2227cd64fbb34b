"""`manifest.json` of a store: what the shards hold, where it came from, and how to undo the normalisation."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError
from ..core.reading import read_json

SCHEMA: Final = 1
FILE = "manifest.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Normalisation(_Model):
    """`stored = (physical - offset) / scale`: affine and unclipped, hence invertible."""

    offset: float
    scale: float = Field(gt=0)

    @classmethod
    def of_range(cls, low: float, high: float) -> Self:
        """Maps [low, high] to [-1, 1]. Raises UserError unless low < high and both are finite."""
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(
                f"range {low:g},{high:g}: the first number must be below the second; state it in the units of the "
                "files (--range LOW,HIGH, data.range in a recipe)"
            )
        return cls(offset=(low + high) / 2, scale=(high - low) / 2)

    def normalise(self, x: Tensor) -> Tensor:
        """Physical units to stored units; float32, computed in float64."""
        return ((x.to(torch.float64) - self.offset) / self.scale).to(torch.float32)

    def to_physical(self, x: Tensor) -> Tensor:
        """Stored units to physical units; float32, computed in float64."""
        return (x.to(torch.float64) * self.scale + self.offset).to(torch.float32)


class SigmaEstimate(_Model):
    """How unstated noise levels were estimated, in normalised units.

    `interval` is the 95% interval of the level of the set, `per_sample` whether each sample has its own estimate.
    """

    sigma: float
    interval: tuple[float, float]
    per_sample: bool
    method: str


class SigmaSummary(_Model):
    """The noise levels of a store at a glance, in normalised units; `estimated` where nobody stated them."""

    min: float
    mean: float
    max: float
    estimated: bool = False
    estimate: SigmaEstimate | None = None


class Shard(_Model):
    """One file of samples, with the SHA-256 of its bytes."""

    file: str = Field(pattern=r"^shard-\d+\.safetensors$")
    count: int = Field(gt=0)
    sha256: str


class Provenance(_Model):
    """Where the samples came from: base name of the files, seed, version of restill, time of writing (UTC)."""

    source: str
    seed: int | None
    restill_version: str
    created: str


class Contents(_Model):
    """Properties of a store that are known before its samples are written.

    `shape` is that of one observation, `image_shape` that of one image `(C, H, W)`; `value_range` is the physical
    range that is stored as [-1, 1]; `corruption` describes what corrupts (`Corruption.describe`), None in a reference.
    `values` says what the channels of an image are: "complex" if real and imaginary parts in turn. Then 0 stays 0, and
    magnitudes are at most about 1 in stored units. `file_range` is the range that values of an image have in files,
    e.g. (0, 255) for 8 bits, in physical units: no image leaves it. None where the files state none, as floats.
    """

    kind: Literal["measurements", "reference"]
    shape: tuple[int, ...]
    image_shape: tuple[int, int, int]
    normalisation: Normalisation
    value_range: tuple[float, float]
    classes: tuple[str, ...] | None
    corruption: dict[str, Any] | None
    values: Literal["real", "complex"] = "real"
    file_range: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _complex_images_have_pairs_of_channels(self) -> Self:
        if self.values == "complex" and (self.image_shape[0] % 2 or self.normalisation.offset != 0):
            raise ValueError("complex images have an even number of channels, and 0 stays 0 (offset)")
        return self

    @model_validator(mode="after")
    def _measurements_have_a_corruption(self) -> Self:
        if (self.kind == "measurements") != (self.corruption is not None):
            raise ValueError("a store of measurements has a corruption, a reference has none")
        return self


class Manifest(Contents):
    """The whole of `manifest.json`."""

    schema_: Literal[1] = Field(alias="schema")
    count: int = Field(gt=0)
    dtype: Literal["float32"] = "float32"
    sigma_n: SigmaSummary
    shards: tuple[Shard, ...]
    provenance: Provenance

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that a training sees of the store; it is the same for a store that is made again."""
        names = ("kind", "shape", "image_shape", "normalisation", "corruption", "values", "shards")
        data = self.model_dump(mode="json", include=set(names))
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest value of an image in stored units, as files can hold it; None where no range is known.

        In older stores a range of 0 to 255 marks 8-bit images.
        """
        found = self.file_range
        if found is None and self.values == "real" and self.value_range == (0.0, 255.0):
            found = self.value_range
        if found is None:
            return None
        offset, scale = self.normalisation.offset, self.normalisation.scale
        return (found[0] - offset) / scale, (found[1] - offset) / scale

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if sum(shard.count for shard in self.shards) != self.count:
            raise ValueError("the counts of the shards do not add up to count")
        return self

    def as_json(self) -> dict[str, Any]:
        """Plain data for `manifest.json`, schema number first; `values` and `file_range` only where they say more."""
        usual = {
            name for name in ("values", "file_range") if getattr(self, name) == type(self).model_fields[name].default
        }
        data = self.model_dump(mode="json", by_alias=True, exclude=usual)
        return {"schema": data.pop("schema"), **data}


def read_manifest(store: Path) -> Manifest:
    """The manifest of the store at `store`.

    Raises:
        UserError: no store, not readable, written by a newer version of restill, or inconsistent in itself.
    """
    path = store / FILE
    if not path.exists():
        raise UserError(
            f"{store}: is not a store (it has no {FILE}); `restill corrupt` and `restill import` write stores"
        )
    data = read_json(path)
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(f"{path}: has schema {schema}, but this restill reads up to {SCHEMA}; install a newer restill")
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {key + ': ' if key else ''}{first['msg']}; write the store again") from error
