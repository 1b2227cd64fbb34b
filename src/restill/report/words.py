"""What a report says of a corruption and of what its teacher draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import UserError
from ..corruption import Corruption, Loss, corruption_from
from ..corruption.words import by_keys, in_words, shortened

_DRAWN = {
    Loss.SHARPNESS: "blurred images,",
    Loss.RESOLUTION: "images of the lower resolution (shown enlarged),",
    Loss.OWN_FUNCTION: "measurements (shown as the minimum-norm images that give them),",
}


def corruption_in_words(description: Mapping[str, Any]) -> str:
    """`Corruption.describe()` in a phrase; a kind that is not known here, as of a plug-in, is told by its keys."""
    try:
        return corruption_from(description).in_words()
    except UserError:
        return in_words(by_keys(description), description)


def operator_in_words(corruption: Corruption) -> str:
    """What an image loses beside Gaussian noise."""
    return corruption.operator_in_words() or "every pixel, under white Gaussian noise"


def went_in(count: int, corruption: Corruption) -> str:
    """What a generator was learned from, and whether any of it was clean."""
    noise_free = not corruption.operator_in_words() and min(corruption.levels) == 0
    clean = noise_free or bool(corruption.describe().get("clean_fraction"))
    beside = "no other clean image" if clean else "no clean image"
    return f"{count:,} measurements with {corruption.in_words()}, and {beside}"


def details(corruption: Corruption) -> list[tuple[str, str]]:
    """What a corruption states beside kind and noise, name by name; arrays are told by their shape."""
    rows = []
    for key, value in corruption.describe().items():
        if key == "operators":
            rows += [(f"part {k}", _part(part)) for k, part in enumerate(value, start=1)]
        elif key not in ("kind", "sigma_n"):
            rows.append((key, str(shortened(value))))
    return rows


def teacher_draws(corruption: Corruption) -> str:
    """A sentence where a teacher draws something else than clean images, which only its student does; else empty."""
    drawn = dict.fromkeys(_DRAWN[loss] for part in corruption.parts for loss in part.lost if loss in _DRAWN)
    if not drawn:
        return ""
    return f"The teacher draws {' and '.join(drawn)} as it was trained to; only the student draws clean images."


def subject_names(corruption: Corruption) -> dict[str, str]:
    """What subjects are called, where that is not their name in `metrics.json`."""
    return {"measurements": "zero-filled"} if corruption.is_complex else {}


def what_is_compared(corruption: Corruption) -> str:
    """A sentence on what is compared of complex images; empty for real ones."""
    if not corruption.is_complex:
        return ""
    return (
        "Images are complex. Metrics compare their magnitudes, with 0 to 1 mapped to -1 to 1. Measurements are "
        "represented by zero-filled reconstructions, in which unmeasured k-space is 0. None of these numbers uses the "
        "phase."
    )


def _part(description: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{key} {shortened(value)}" for key, value in description.items() if key != "kind")
    return f"{description['kind']}{f': {rest}' if rest else ''}"
