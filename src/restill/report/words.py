"""Corruptions in words that a person would say, from their descriptions; arrays in these are told by their shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.errors import UserError
from ..corruption import (
    AdditiveNoise,
    Blur,
    Compose,
    Corruption,
    Downsampling,
    Embedded,
    Function,
    Mask,
    Mri,
    Poisson,
    corruption_from,
)

_FEW_LEVELS = 4  # more, as with a level for each image, are told by their range
_NOT_DETAILS = frozenset({"kind", "sigma_n", "weights", "clean_fraction"})
_PATTERNS = {"box": "a box of {}", "centre-box": "a box of {} in the middle of each image"}


def corruption_in_words(description: Mapping[str, Any]) -> str:
    """`Corruption.describe()` in a phrase, e.g. `60% of the pixels missing and noise 0.2`."""
    law = _law(description)
    what = operator_in_words(description)
    if isinstance(law, AdditiveNoise):
        phrase = _noise(description)
    elif _photons(law) is not None:
        phrase = what
    else:
        phrase = f"{what}{', and' if ', then ' in what else ' and'} {_noise(description)}"
    clean = law.clean_fraction if law is not None else 0.0
    return f"{phrase} ({_percent(clean)} of the images as they are)" if clean else phrase


def operator_in_words(description: Mapping[str, Any]) -> str:
    """The same without its Gaussian noise: what an image loses otherwise."""
    law = _law(description)
    return _generic(description) if law is None else _operator(law, description)


def went_in(count: int, description: Mapping[str, Any]) -> str:
    """What a generator was learned from, and whether any of it was clean."""
    law = _law(description)
    clean = law is not None and (law.clean_fraction > 0 or (law.kind == "noise" and min(law.levels) == 0))
    beside = "no clean image beside them" if clean else "no clean image"
    return f"{count:,} measurements with {corruption_in_words(description)}, and {beside}"


def details(description: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a description states beside kind and noise, name by name, arrays by their shape."""
    rows = []
    for key, value in description.items():
        if key == "operators" and isinstance(value, (list, tuple)):
            for k, part in enumerate(value, start=1):
                rows.append((f"part {k}", _part(part) if isinstance(part, Mapping) else str(part)))
        elif key not in ("kind", "sigma_n"):
            rows.append((str(key), str(shortened(value))))
    return rows


def shortened(value: Any) -> Any:
    """Plain data in which arrays are told by their shape."""
    if isinstance(value, Mapping):
        if value.keys() >= {"dtype", "shape", "zlib"}:
            return f"an array of {' x '.join(map(str, value['shape']))}"
        return {key: shortened(part) for key, part in value.items()}
    return [shortened(part) for part in value] if isinstance(value, (list, tuple)) else value


def teacher_draws(description: Mapping[str, Any]) -> str:
    """A sentence where a teacher draws something else than clean images, which only its student does; else empty."""
    law = _law(description)
    lost = [_LOSSES[type(part)] for part in _parts(law) if type(part) in _LOSSES]
    if not lost:
        return ""
    return f"The teacher draws {' and '.join(dict.fromkeys(lost))} as it was trained to; only the student undoes that."


def is_complex(description: Mapping[str, Any]) -> bool:
    """Whether the law measures complex images; not where restill does not know it."""
    law = _law(description)
    return law is not None and law.is_complex


def subject_names(description: Mapping[str, Any]) -> dict[str, str]:
    """What subjects are called, where that is not their name in `metrics.json`."""
    return {"measurements": "zero-filled"} if is_complex(description) else {}


def what_is_compared(description: Mapping[str, Any]) -> str:
    """A sentence on what is compared of complex images; empty for real ones."""
    if not is_complex(description):
        return ""
    return (
        "Images are complex: what is compared are their magnitudes (0 to 1 count as -1 to 1, as of any images), and of "
        "measurements those of their zero-filled reconstructions, in which what was not measured of k-space is 0. No "
        "such number sees a phase."
    )


_LOSSES: dict[type[Corruption] | type[None], str] = {
    Blur: "blurred images,",
    Downsampling: "images of the lower resolution (shown enlarged),",
    Function: "measurements (shown as the images of least norm that would give them),",
}


def _law(description: Mapping[str, Any]) -> Corruption | None:
    """The law; None where restill does not know it, or where its description is not one."""
    try:
        return corruption_from(description)
    except UserError:
        return None


def _parts(law: Corruption | None) -> Iterable[Corruption | None]:
    return law.parts if isinstance(law, Compose) else (law,)


def _photons(law: Corruption | None) -> Poisson | None:
    return next((part for part in _parts(law) if isinstance(part, Poisson)), None)


def _noise(description: Mapping[str, Any]) -> str:
    sigma, weights = description.get("sigma_n", 0.0), description.get("weights")
    levels = [sigma] if isinstance(sigma, (int, float)) else list(sigma)
    if len(levels) > _FEW_LEVELS:
        return f"noise {min(levels):g} to {max(levels):g} ({len(levels):,} levels)"
    noise = f"noise {' or '.join(f'{level:g}' for level in levels)}" if any(levels) else "no noise"
    return f"{noise} (in proportion {' : '.join(f'{weight:g}' for weight in weights)})" if weights else noise


def _operator(law: Corruption, description: Mapping[str, Any]) -> str:
    if isinstance(law, AdditiveNoise):
        return "every pixel, under white Gaussian noise"
    if isinstance(law, Mask):
        return _mask(law)
    if isinstance(law, Blur):
        return _blur(law)
    if isinstance(law, Downsampling):
        k = law.factor
        return f"averages of {k} x {k} pixels" if law.method == "average" else f"1/{k} of the resolution ({law.method})"
    if isinstance(law, Poisson):
        read = f", read noise of {law.read_noise / law.gain:.3g}" if law.read_noise else ""
        return f"photon noise ({(1 - law.zero) / law.gain:,.4g} photons at white{read})"
    if isinstance(law, Mri):
        return _mri(law)
    if isinstance(law, Function):
        return f"the operator {law.name!r}"
    if isinstance(law, Compose):
        return ", then ".join(_operator(part, part.describe()) for part in law.parts)
    return _generic(description)


def _mask(law: Mask) -> str:
    if isinstance(law.masks, Embedded):
        count = law.masks.array.shape[0]
        share = _percent(1 - float(law.masks.array.mean()))
        return f"{share} of the pixels missing ({count:,} mask{'s' if count > 1 else ''} from files)"
    rates = " or ".join(_percent(rate) for rate in law.rates)
    lost = _PATTERNS.get(law.pattern, "{}").format(f"{rates} of the pixels")
    how = {"stripes": f"stripes {law.size} wide", "dust": f"spots of {law.size}"}.get(law.pattern)
    notes = [*([how] if how else []), *(["each channel by itself"] if law.per_channel else [])]
    return f"{lost} missing ({', '.join(notes)})" if notes else f"{lost} missing"


def _blur(law: Blur) -> str:
    if isinstance(law.kernel, Embedded):
        return f"blur by a measured kernel of {' x '.join(map(str, law.sides))} pixels"
    if law.kernel == "gaussian":
        return f"Gaussian blur ({law.size} pixels, std {law.std:g})"
    length = law.size - 1 if law.length is None else law.length
    angle = "any direction" if law.angle is None else f"{law.angle:g} degrees"
    return f"motion blur ({length:g} pixels, {angle})"


def _mri(law: Mri) -> str:
    coils = f"k-space of {law.coils} coil{'s' if law.coils > 1 else ''}"
    if law.pattern == "files":
        return f"undersampled {coils} (masks of measurements)"
    if max(law.accelerations) == 1:
        return f"fully sampled {coils}"
    rates = " or ".join(f"{rate:g}-fold" for rate in law.accelerations)
    return f"{rates} undersampled {coils} ({law.pattern} lines, the {law.acs} in the centre always)"


def _generic(description: Mapping[str, Any]) -> str:
    kind = str(description.get("kind", "corruption"))
    known = ", ".join(f"{key} {shortened(value)}" for key, value in description.items() if key not in _NOT_DETAILS)
    return f"{kind} ({known})" if known else kind


def _part(description: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{key} {shortened(value)}" for key, value in description.items() if key != "kind")
    return f"{description.get('kind')}{f': {rest}' if rest else ''}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
