"""Estimates of noise in words, and levels of noise as bars, for terminals."""

from __future__ import annotations

from rich.text import Text
from torch import Tensor

from ..estimation import NoiseEstimate, PoissonGaussianEstimate

_BINS, _WIDTH = 10, 40


def noise_in_words(found: NoiseEstimate, scale: float) -> list[str]:
    """Lines on the level of white noise, and on whether one level describes all images.

    Args:
        scale: of the images, in the units of the files, where they would span [-1, 1].
    """
    interval, (low, high) = (found.low, found.high), found.spread
    lines = [
        f"sigma_n {_interval(found.sigma, interval)} in the units of the files",
        f"        {_interval(found.sigma, interval, scale)} where images span [-1, 1]",
    ]
    if found.mixed:
        lines.append(
            f"Levels differ between images: 5% lie below {low:.4g}, 5% above {high:.4g}. Import with "
            "--sigma-n auto-per-sample."
        )
    elif found.low <= 0:
        lines.append("The interval includes 0: the estimate cannot distinguish this level from no noise.")
    elif found.vague:
        lines.append(
            "Details are as strong as the noise: only the interval is known. More or larger images, or images with "
            "smooth parts, narrow it."
        )
    else:
        lines.append(
            f"One level describes all images: the levels of single images, known to {found.error:.1%}, agree with it."
        )
    return lines


def photon_noise_in_words(found: PoissonGaussianEstimate, scale: float) -> list[str]:
    """Lines on gain and read noise; `scale` as in `noise_in_words`."""
    return [
        f"gain       {_interval(found.gain, found.gain_interval)} units of the files per count",
        f"read noise {_interval(found.read, found.read_interval)} in the units of the files",
        f"           {_interval(found.read, found.read_interval, scale)} where images span [-1, 1]",
        f"The variance is gain * (signal - {found.zero:g}) + read noise^2, provided that {found.zero:g} in the files "
        "means no light.",
    ]


def _interval(value: float, interval: tuple[float, float], scale: float = 1.0) -> str:
    low, high = interval
    return f"{value / scale:.4g} (95% interval {low / scale:.4g} to {high / scale:.4g})"


def histogram(levels: Tensor) -> Text:
    """Bars of the noise levels `[n]`, one line per bin (per level where there are few)."""
    found, counts = levels.unique(return_counts=True)
    names = [f"{level:.4g}" for level in found.tolist()]
    if len(found) > _BINS:
        low, high = float(found[0]), float(found[-1])
        counts = levels.double().histc(_BINS, low, high).int()
        step = (high - low) / _BINS
        names = [f"{low + i * step:.4g} to {low + (i + 1) * step:.4g}" for i in range(_BINS)]
    width, most = max(map(len, names)), int(counts.max())
    bars = ("█" * round(_WIDTH * count / most) for count in counts.tolist())
    rows = zip(names, bars, counts.tolist(), strict=True)
    return Text("\n".join(f"  {name:>{width}}  {bar:<{_WIDTH}} {count:,}" for name, bar, count in rows))
