"""What a report says of a corruption, from its description: also of a kind that is not known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import UserError
from ..corruption import Corruption, Loss, corruption_from
from ..corruption.words import by_keys, in_words, shortened

_DRAWN = {
    Loss.SHARPNESS: "blurred images,",
    Loss.RESOLUTION: "images of the lower resolution (shown enlarged),",
    Loss.OWN_FUNCTION: "measurements (shown as the images of least norm that would give them),",
}


def corruption_in_words(description: Mapping[str, Any]) -> str:
    """`Corruption.describe()` in a phrase, e.g. `60% of the pixels missing and noise 0.2`."""
    known = _known(description)
    return in_words(by_keys(description), description) if known is None else known.in_words()


def operator_in_words(description: Mapping[str, Any]) -> str:
    """The same without its Gaussian noise: what an image loses otherwise."""
    known = _known(description)
    operator = by_keys(description) if known is None else known.operator_in_words()
    return operator or "every pixel, under white Gaussian noise"


def went_in(count: int, description: Mapping[str, Any]) -> str:
    """What a generator was learned from, and whether any of it was clean."""
    known = _known(description)
    clean = bool(description.get("clean_fraction"))
    clean = clean or (known is not None and not known.operator_in_words() and min(known.levels) == 0)
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


def teacher_draws(description: Mapping[str, Any]) -> str:
    """A sentence where a teacher draws something else than clean images, which only its student does; else empty."""
    known = _known(description)
    lost = [loss for part in known.parts for loss in part.lost] if known is not None else []
    drawn = dict.fromkeys(_DRAWN[loss] for loss in lost if loss in _DRAWN)
    if not drawn:
        return ""
    return f"The teacher draws {' and '.join(drawn)} as it was trained to; only the student undoes that."


def is_complex(description: Mapping[str, Any]) -> bool:
    """Whether measurements are of complex images; not where the kind is not known here."""
    known = _known(description)
    return known is not None and known.is_complex


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


def _known(description: Mapping[str, Any]) -> Corruption | None:
    """The corruption; None where its kind is not known here, or where the description is not one."""
    try:
        return corruption_from(description)
    except UserError:
        return None


def _part(description: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{key} {shortened(value)}" for key, value in description.items() if key != "kind")
    return f"{description.get('kind')}{f': {rest}' if rest else ''}"
