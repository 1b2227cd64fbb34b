"""Corruptions in words, from plain data: what all kinds share, and kinds without words of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FEW_LEVELS = 4  # more, such as one for each image, are described by their range
_NOT_DETAILS = frozenset({"kind", "sigma_n", "weights", "clean_fraction"})


def in_words(operator: str, description: Mapping[str, Any]) -> str:
    """A corruption in a phrase.

    Args:
        operator: what an image loses beside Gaussian noise, empty if nothing.
        description: `Corruption.describe()`, which says the noise.
    """
    phrase = operator
    if "sigma_n" in description:
        noise = _noise(description["sigma_n"], description.get("weights"))
        joint = ", and " if ", then " in operator else " and "
        phrase = f"{operator}{joint}{noise}" if operator else noise
    clean = description.get("clean_fraction", 0.0)
    return f"{phrase} ({percent(clean)} of the images as they are)" if clean else phrase


def by_keys(description: Mapping[str, Any]) -> str:
    """A kind without words of its own: `haze (depth 2)`."""
    kind = str(description.get("kind", "corruption"))
    known = ", ".join(f"{key} {shortened(value)}" for key, value in description.items() if key not in _NOT_DETAILS)
    return f"{kind} ({known})" if known else kind


def shortened(value: Any) -> Any:
    """Plain data with the shapes of arrays in place of their contents."""
    if isinstance(value, Mapping):
        if value.keys() >= {"dtype", "shape", "zlib"}:
            return f"an array of {' x '.join(map(str, value['shape']))}"
        return {key: shortened(part) for key, part in value.items()}
    return [shortened(part) for part in value] if isinstance(value, (list, tuple)) else value


def percent(share: float) -> str:
    """A share as a person writes it: `12.5%`."""
    return f"{100 * share:.3g}%"


def _noise(sigma_n: Any, weights: Any) -> str:
    levels = [sigma_n] if isinstance(sigma_n, (int, float)) else list(sigma_n)
    if len(levels) > _FEW_LEVELS:
        return f"noise {min(levels):g} to {max(levels):g} ({len(levels):,} levels)"
    noise = f"noise {' or '.join(f'{level:g}' for level in levels)}" if any(levels) else "no noise"
    return f"{noise} (in proportion {' : '.join(f'{weight:g}' for weight in weights)})" if weights else noise
