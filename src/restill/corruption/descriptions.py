"""Descriptions of laws as people write them: in the units of their files, and with files named in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import UserError
from .compose import Compose
from .corruption import Corruption, corruption_from
from .embedded import Embedded
from .poisson import Poisson


def in_units(description: Mapping[str, Any], offset: float | None = None, scale: float = 1.0) -> dict[str, Any]:
    """A law stated in the units of files, in normalised units: `normalised = (physical - offset) / scale`.

    Only photon noise has units of its own; its `zero`, the value of no light, is 0 in files unless stated. The noise
    level of all other kinds is left as it is.

    Args:
        offset, scale: of the normalisation; where they are not known yet, the law can be checked as if all were bright.

    Raises:
        UserError: photon noise without a gain, with values that cannot be, or with no light as bright as white.
    """
    data = dict(description)
    if data.get("kind") == "poisson":
        if "gain" not in data:
            raise UserError(
                "corruption.gain is missing: how much one photon adds in the units of the files; `restill "
                "estimate-noise --model poisson-gaussian` estimates it"
            )
        law = corruption_from({"zero": 0.0, **data})
        assert isinstance(law, Poisson)
        law = (
            law.in_units(law.zero, 100 * (law.gain + law.read_noise)) if offset is None else law.in_units(offset, scale)
        )
        data |= {"gain": law.gain, "read_noise": law.read_noise, "zero": law.zero}
    if data.get("kind") == "compose" and isinstance(data.get("operators"), (list, tuple)):
        data["operators"] = [in_units(part, offset, scale) for part in map(as_mapping, data["operators"])]
    return data


def has_photon_noise(description: Mapping[str, Any]) -> bool:
    """Whether a law, as it is described, says the noise of its measurements itself."""
    parts = description.get("operators") if description.get("kind") == "compose" else None
    return description.get("kind") == "poisson" or any(has_photon_noise(as_mapping(part)) for part in parts or ())


def as_mapping(part: Any) -> dict[str, Any]:
    """A part of a chain, a kind or a mapping with one, as a mapping. Raises UserError if it is neither."""
    if not isinstance(part, (str, Mapping)):
        raise UserError(f"corruption.operators: a part must be a kind or a mapping with one, not {part!r}")
    return {"kind": part} if isinstance(part, str) else dict(part)


def with_contents(description: Mapping[str, Any], law: Corruption) -> dict[str, Any]:
    """A description of `law` in which the contents of files stand for their names: it needs the files no more."""
    data = dict(description)
    for name in type(law).model_fields:
        value = getattr(law, name)
        if isinstance(value, Embedded):
            data[name] = value.describe()
    if isinstance(law, Compose):
        described = zip(data["operators"], law.parts, strict=True)
        data["operators"] = [part if isinstance(part, str) else with_contents(part, of) for part, of in described]
    return data
