"""Do simple statistics of generated images, corrupted anew, agree with those of the measurements?

Five numbers of each image (mean, standard deviation, high-frequency energy, total variation, maximum) are compared by
the two-sample Kolmogorov-Smirnov test, with the Bonferroni correction for five tests. A Fréchet distance says how far
apart two sets are; these tests say how they differ. With thousands of images the test finds differences that do not
matter, so a warning also requires a distance that does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import wide_dtype
from ..metrics.results import Check, Subject

P_LIMIT = 0.01  # corrected
DISTANCE_LIMIT = 0.1  # largest difference of the two distribution functions that is not worth a warning
NAMES = {
    "mean": "mean",
    "std": "standard deviation",
    "high-frequency": "high-frequency energy",
    "variation": "total variation",
    "maximum": "maximum",
}
_LOCATED = ("mean", "maximum")  # may be of either sign: differences are not relative
_QUANTITIES = ("high-frequency", "variation")  # described as more or less, not as higher or lower


@dataclass(frozen=True)
class Difference:
    """One statistic of two sets of images.

    Attributes:
        name: a key of `NAMES`.
        distance: Kolmogorov-Smirnov distance, 0 to 1.
        p: chance of a distance so large or larger between two samples of one distribution (asymptotic).
        generated: mean over the generated images, corrupted anew.
        measured: mean over the measurements.
        generated_std: standard deviation over the generated images.
        measured_std: standard deviation over the measurements.
    """

    name: str
    distance: float
    p: float
    generated: float
    measured: float
    generated_std: float
    measured_std: float


@dataclass(frozen=True)
class Residuals:
    """All differences of two sets of images.

    Attributes:
        differences: the statistics that the images allow, the largest distance first.
        images: number of generated images.
        n: number of measurements.
    """

    differences: tuple[Difference, ...]
    images: int
    n: int

    @property
    def p(self) -> float:
        """Smallest of the p-values, corrected for their number (Bonferroni); at most 1."""
        return min(1.0, len(self.differences) * min(d.p for d in self.differences))


def image_statistics(images: Tensor) -> dict[str, Tensor]:
    """Numbers that describe single images, each float64 `[n]` (float32 on mps), on the images' device.

    `mean`, `std` and `maximum` over all pixels and channels; `high-frequency`, the mean square of the finest diagonal
    Haar detail, `(a - b - c + d)/2` of every block of 2 x 2 pixels, which is `sigma^2` for white noise; `variation`,
    the mean absolute difference of neighbouring pixels (anisotropic total variation per pair). The latter two are left
    out if images are less than two pixels high or wide; an odd last row or column has no Haar block.

    Args:
        images: real `[n, C, H, W]`; complex images as magnitudes, or as channels.

    Raises:
        UserError: another shape, no pixel, or values that are not finite.
    """
    if images.ndim != 4 or not images.is_floating_point() or not images[:1].numel():
        raise UserError(
            f"statistics need at least one real image [n, C, H, W], not {images.dtype} {list(images.shape)}"
        )
    if not bool(torch.isfinite(images).all()):
        raise UserError("statistics need images without NaN or infinite values")
    parts = [_statistics(chunk.to(wide_dtype(images.device))) for chunk in images.split(512)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _statistics(x: Tensor) -> dict[str, Tensor]:
    flat = x.flatten(1)
    found = {"mean": flat.mean(1), "std": flat.std(1, correction=0), "maximum": flat.amax(1)}
    if min(x.shape[2:]) >= 2:
        found |= {"high-frequency": _haar_energy(x), "variation": _variation(x)}
    return found


def _haar_energy(x: Tensor) -> Tensor:
    x = x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    detail = (x[..., ::2, ::2] - x[..., ::2, 1::2] - x[..., 1::2, ::2] + x[..., 1::2, 1::2]) / 2
    return detail.square().flatten(1).mean(1)


def _variation(x: Tensor) -> Tensor:
    steps = [x.diff(dim=axis).abs().flatten(1) for axis in (2, 3)]
    return torch.cat(steps, dim=1).mean(1)


def kolmogorov_smirnov(a: Tensor, b: Tensor) -> tuple[float, float]:
    r"""The two-sample Kolmogorov-Smirnov test of samples `[n]` and `[m]`.

    Returns:
        The distance :math:`D = \sup |F_a - F_b|` and its p-value :math:`Q((\sqrt{e} + 0.12 + 0.11/\sqrt{e}) D)` with
        :math:`e = nm/(n+m)` and :math:`Q(t) = 2 \sum_k (-1)^{k-1} \exp(-2 k^2 t^2)` (Stephens, Journal of the Royal
        Statistical Society B 32 (1970)); within a fifth from about 40 values each. Ties make it an upper bound.
    """
    a, b = a.cpu().double().sort().values, b.cpu().double().sort().values
    points = torch.cat([a, b])
    below = [torch.searchsorted(values, points, right=True).double() / len(values) for values in (a, b)]
    distance = float((below[0] - below[1]).abs().max())
    root = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    return distance, kolmogorov_tail((root + 0.12 + 0.11 / root) * distance)


def kolmogorov_tail(t: float) -> float:
    """Chance that the supremum of a Brownian bridge exceeds `t`: Kolmogorov's distribution from above."""
    if t < 0.2:
        return 1.0  # exact to 12 digits, and the series needs many terms here
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * t) ** 2) for k in range(1, 40))
    return min(max(2 * math.fsum(terms), 0.0), 1.0)


def residuals(generated: Tensor, measurements: Tensor) -> Residuals:
    """Compare single images of two sets, statistic by statistic.

    Args:
        generated: generated images, corrupted anew, on the image grid: `[m, C, H, W]`, from `recorrupted`.
        measurements: on the image grid, `[n, C, H, W]`, in the same units.

    Raises:
        UserError: images of different shapes, fewer than two on either side, or values that are not finite.
    """
    if generated.shape[1:] != measurements.shape[1:] or min(len(generated), len(measurements)) < 2:
        raise UserError(
            f"residuals need at least two images of the same shape on each side, not {list(generated.shape)} and "
            f"{list(measurements.shape)}"
        )
    ours, theirs = image_statistics(generated), image_statistics(measurements)
    differences = [_difference(name, ours[name], theirs[name]) for name in ours]
    order = sorted(differences, key=lambda difference: -difference.distance)
    return Residuals(tuple(order), len(generated), len(measurements))


def _difference(name: str, a: Tensor, b: Tensor) -> Difference:
    distance, p = kolmogorov_smirnov(a, b)
    return Difference(name, distance, p, float(a.mean()), float(b.mean()), float(a.std()), float(b.std()))


def in_words(difference: Difference) -> str:
    """How generated images differ, e.g. `have 3.0% less high-frequency energy than the measurements`.

    A shift is named where it moves the distribution more, else the change of the spread from image to image: of normal
    distributions, a shift by 0.6 of a relative change of the spread has the same Kolmogorov-Smirnov distance.
    """
    name, shift, spread = NAMES[difference.name], difference.generated - difference.measured, difference.measured_std
    change = difference.generated_std / spread - 1 if spread > 0 else 0.0
    if max(abs(shift), abs(change) * spread) < 0.02 * spread:
        return f"differ from the measurements in the distribution of their {name}, but not in its mean,"
    if abs(shift) < 0.6 * abs(change) * spread:
        more = "more" if change > 0 else "less"
        return f"vary {abs(change):.1%} {more} in {name} from image to image than the measurements"
    amount = f"{abs(shift):.2g}"
    if difference.name not in _LOCATED:
        amount = f"{abs(shift) / difference.measured:.1%}" if 10 * difference.measured > abs(shift) else "far"
    if difference.name in _QUANTITIES:
        return f"have {amount} {'more' if shift > 0 else 'less'} {name} than the measurements"
    return f"have a {name} {amount} {'higher' if shift > 0 else 'lower'} than the measurements"


def residuals_check(found: Residuals, subject: Subject) -> Check:
    """The result of `residuals` in words. Its value is the largest Kolmogorov-Smirnov distance."""
    worst, significant = found.differences[0], found.p < P_LIMIT
    warn = significant and worst.distance > DISTANCE_LIMIT
    tests = len(found.differences)
    test = f"Kolmogorov-Smirnov distance {worst.distance:.3f}, p = {found.p:.1g} after correction for {tests} tests"
    if significant:
        sentence = f"The re-corrupted generated images {in_words(worst)} ({test}): " + (
            "this alone distinguishes the two." if warn else "a significant but small difference."
        )
    else:
        sentence = (
            f"The re-corrupted generated images cannot be distinguished from the measurements by {_listed(found)}; "
            f"they differ most in {NAMES[worst.name]} ({test})."
        )
    return Check(
        name="residuals",
        subject=subject,
        value=worst.distance,
        status="warning" if warn else "ok",
        sentence=sentence,
        settings={
            "images": found.images, "measurements": found.n, "p": found.p, "statistic": worst.name,
            **{f"distance {d.name}": d.distance for d in found.differences},
        },
    )  # fmt: skip


def _listed(found: Residuals) -> str:
    *names, last = (name for key, name in NAMES.items() if key in {d.name for d in found.differences})
    return f"{', '.join(names)} or {last}"
