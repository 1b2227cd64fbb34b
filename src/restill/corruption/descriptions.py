"""Descriptions of corruptions as people write them: in the units of their files, and with files named in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import UserError
from .compose import Compose
from .corruption import Corruption, corruption_from
from .embedded import Embedded
from .poisson import Poisson


def in_units(description: Mapping[str, Any], offset: float | None = None, scale: float = 1.0) -> dict[str, Any]:
    """A corruption stated in the units of files, in normalised units: `normalised = (physical - offset) / scale`.

    Only photon noise has units of its own; its `zero`, the value of no light, is 0 in files unless stated. The noise
    level of all other kinds is left as it is.

    Args:
        offset, scale: of the normalisation; without them the corruption is only checked, as if all images were bright.

    Raises:
        UserError: photon noise without a gain, with impossible values, or with a `zero` as bright as white.
    """
    data = dict(description)
    if data.get("kind") == "poisson":
        if "gain" not in data:
            raise UserError(
                "corruption.gain is missing: state how much one photon adds in the units of the files; `restill "
                "estimate-noise --model poisson-gaussian` estimates it"
            )
        photons = corruption_from({"zero": 0.0, **data})
        assert isinstance(photons, Poisson)
        if offset is None:
            offset, scale = photons.zero, 100 * (photons.gain + photons.read_noise)
        photons = photons.in_units(offset, scale)
        data |= {"gain": photons.gain, "read_noise": photons.read_noise, "zero": photons.zero}
    if data.get("kind") == "compose" and isinstance(data.get("operators"), (list, tuple)):
        data["operators"] = [in_units(part, offset, scale) for part in map(as_mapping, data["operators"])]
    return data


def has_photon_noise(description: Mapping[str, Any]) -> bool:
    """Whether the described corruption derives the noise of its measurements itself."""
    parts = description.get("operators") if description.get("kind") == "compose" else None
    return description.get("kind") == "poisson" or any(has_photon_noise(as_mapping(part)) for part in parts or ())


def as_mapping(part: Any) -> dict[str, Any]:
    """A part of a chain, a kind or a mapping with one, as a mapping. Raises UserError if it is neither."""
    if not isinstance(part, (str, Mapping)):
        raise UserError(f"corruption.operators: a part must be a kind or a mapping with one, not {part!r}")
    return {"kind": part} if isinstance(part, str) else dict(part)


def with_contents(description: Mapping[str, Any], corruption: Corruption) -> dict[str, Any]:
    """A description of `corruption` with file contents in place of file names, so it needs no other file."""
    data = dict(description)
    for name in type(corruption).model_fields:
        value = getattr(corruption, name)
        if isinstance(value, Embedded):
            data[name] = value.describe()
    if isinstance(corruption, Compose):
        described = zip(data["operators"], corruption.parts, strict=True)
        data["operators"] = [part if isinstance(part, str) else with_contents(part, of) for part, of in described]
    return data
