r"""How likely are the measurements under a generator?

A generator has no likelihood of images, but with additive Gaussian noise it has one of measurements:
:math:`p_G(y) = E_z\, N(y; A\,G(z), \sigma_n^2)`, here the mean over :math:`m` generated images. Unlike a comparison of
sets, it tests for each measurement whether some generated image explains it.

In many dimensions the nearest image dominates the mean, which then lies far below the true likelihood. It is therefore
compared with a reference that has the same error: generated images, measured by the same operators with the same noise
levels, and scored against the OTHER generated images. The two agree if the generator has the distribution of the data;
a generator that copies its training data explains the measurements better than its own images.

**Limitation.** Let :math:`p` and :math:`p_G` be the distributions of real and generated measurements. The difference is
:math:`H(p_G) - H(p) - KL(p\,|\,p_G)`: a generator that omits the least varied part of the data gains in the first term
what it loses in the last. A difference of zero is therefore necessary for a correct generator, but not sufficient.

The noise of stabilised photon counts is only approximately Gaussian. Both sides have the noise of the corruption and
are scored by the same Gaussian density, so both contain the same error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import seeded, wide_dtype
from ..corruption import Corruption, Operator
from ..corruption.traits import with_noise
from ..metrics.results import Check, Subject
from .fit import alike, observed_numbers, squared_differences

Z_LIMIT = 4.0  # the images are shared by all terms: z has a standard deviation of up to 1.2 where nothing differs
NATS_LIMIT = 1.0  # per measurement: a factor of e, below which a difference is not worth a warning
_APPLIED = 1 << 28  # numbers of all applications of operators that differ: of these fewer measurements are scored,
_FEWEST = 40  # this many at least, and where that is still too much, under fewer images, as many at least;
_LARGEST = 1 << 20  # and none at all where one measurement has more numbers


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihoods in nats per observed number of a measurement, mean over measurements.

    Attributes:
        measurements: of the measurements.
        measurements_std: its standard error.
        own: of generated images, measured alike, under the other generated images.
        own_std: its standard error.
        effective: effective number of images that explain a measurement, `1/sum(w^2)`, mean over measurements.
        n: number of measurements.
        images: number of generated images.
        dim: numbers per measurement that were observed, mean over measurements.
    """

    measurements: float
    measurements_std: float
    own: float
    own_std: float
    effective: float
    n: int
    images: int
    dim: int

    @property
    def difference(self) -> float:
        """Measurements minus own images, in nats per number; below 0 if the generator explains the data badly."""
        return self.measurements - self.own

    @property
    def difference_std(self) -> float:
        """Standard error of the difference, of independent measurements and images."""
        return math.hypot(self.measurements_std, self.own_std)


def measurement_likelihood(
    y: Tensor, operator: Operator, images: Tensor, seed: int, corruption: Corruption | None = None
) -> Likelihood | None:
    """Log-likelihood of measurements under a generator, beside that of its own images.

    If the operators differ only in their noise or their missing pixels, each image is measured once. Otherwise every
    operator is applied to all images, `n m` applications; if that is too much work, only the first measurements are
    scored, if necessary under the first images alone. Samples that have no noise, and so no density, are left out; so
    are samples that observe nothing.

    Args:
        y: normalised measurements `[n, ...]`, as they were measured (not `to_image(y)`).
        operator: what measured them, with their noise levels.
        images: generated `[m, C, H, W]` in normalised units, m at least 3, on the same device.
        seed: chooses the images that are measured, and their noise.
        corruption: draws that noise, which is Gaussian by default.

    Raises:
        UserError: shapes that do not match, too few images, or values that are not finite.
    """
    _check(y, operator, images)
    noisy = (operator.sigma_n > 0) & (observed_numbers(y, operator) > 0).to(operator.sigma_n.device)
    if int(noisy.sum()) < 2:
        return None
    y, operator = y[noisy.to(y.device)], operator.select(noisy)
    wide = wide_dtype(images.device)
    y, images = y.to(wide), images.to(wide)
    if not alike(operator.whole()):
        if y[0].numel() > _LARGEST:
            return None
        y, operator, images = _fewer(y, operator, images)
    generator = seeded("likelihood", seed, device=images.device)
    order = torch.randperm(len(images), generator=generator, device=images.device)
    chosen = order[: min(len(y), len(images))]
    measuring = operator.select(slice(0, len(chosen)))
    own = (with_noise if corruption is None else corruption.corrupt)(images[chosen], measuring, generator)
    theirs, effective = _log_density(y, operator, images, None)
    ours, _ = _log_density(own, measuring, images, chosen)
    (value, value_std), (own_value, own_std) = _mean(theirs), _mean(ours)
    dim = round(float(observed_numbers(y, operator).mean()))
    return Likelihood(value, value_std, own_value, own_std, float(effective.mean()), len(y), len(images), dim)


def _fewer(y: Tensor, operator: Operator, images: Tensor) -> tuple[Tensor, Operator, Tensor]:
    """As many measurements and images as can be compared one by one."""
    images = images[: max(_FEWEST, _APPLIED // (_FEWEST * y[0].numel()))]
    most = max(_FEWEST, _APPLIED // (len(images) * y[0].numel()))
    return y[:most], operator.select(slice(0, most)), images


def _check(y: Tensor, operator: Operator, images: Tensor) -> None:
    if len(y) != len(operator) or len(images) < 3:
        raise UserError(
            f"likelihood: needs one operator for each measurement and 3 images or more, not {len(operator)} operators "
            f"for {len(y)} measurements and {len(images)} images"
        )
    if not (y.is_floating_point() and images.is_floating_point()):
        raise UserError(f"likelihood: measurements and images must be real, not {y.dtype} and {images.dtype}")
    if not bool(torch.isfinite(y).all() and torch.isfinite(images).all()):
        raise UserError("likelihood: measurements or images hold NaN or infinite values")


def _mean(values: Tensor) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


def _log_density(y: Tensor, operator: Operator, images: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log-density of each measurement in nats per observed number `[n]`, and its effective number of images `[n]`.

    Args:
        own: row of the image behind each measurement, int64 `[n]`, which then is left out of the mean.
    """
    squares, observed = squared_differences(y, operator, images), observed_numbers(y, operator)
    variance = operator.sigma_n.to(y).square()
    logs = -squares / (2 * variance[:, None])
    if own is not None:
        logs[torch.arange(len(y), device=y.device), own] = -torch.inf
    total = logs.logsumexp(dim=1)
    effective = (2 * total - (2 * logs).logsumexp(dim=1)).exp()
    scale = math.log(len(images) - (own is not None)) + observed / 2 * (2 * math.pi * variance).log()
    return (total - scale) / observed, effective


def likelihood_check(found: Likelihood, subject: Subject, number: str = "pixel") -> Check:
    """The result of `measurement_likelihood` in words. Its value is the difference, in nats per measured number.

    Args:
        number: what such a number is.
    """
    error = found.difference_std
    sure = abs(found.difference) > Z_LIMIT * error
    matters = abs(found.difference) * found.dim > NATS_LIMIT
    difference = f"{found.difference:+.2g} ± {error:.1g} nats per {number}"
    figures = f"difference {difference}; {found.measurements:.3g} and {found.own:.3g}"
    if not (sure and matters):
        words = f"Measurements are as likely under the generator as its own corrupted images ({figures})."
    elif found.difference < 0:
        words = (
            f"Measurements are less likely under the generator than its own corrupted images ({figures}): no "
            "generated image explains some of what was measured."
        )
    else:
        words = (
            f"Measurements are more likely under the generator than its own corrupted images ({figures}): generated "
            "images vary more than the data, or are copies of the data."
        )
    if found.effective < 2:
        words += " Each likelihood comes mostly from the nearest image, so only the difference is meaningful."
    return Check(
        name="likelihood",
        subject=subject,
        value=found.difference,
        std=error,
        status="warning" if sure and matters and found.difference < 0 else "ok",
        sentence=words,
        settings={
            "images": found.images, "measurements": found.n, "log-likelihood": found.measurements, "own": found.own,
            "effective_images": found.effective, "limit": Z_LIMIT,
        },
    )  # fmt: skip
