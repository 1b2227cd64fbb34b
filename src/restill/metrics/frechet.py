r"""The Fréchet distance between Gaussians fitted to two sets of features.

For :math:`N(\mu_a, C_a)` and :math:`N(\mu_b, C_b)` (Dowson and Landau 1982; FID: arXiv 1706.08500, eq. 6):

.. math:: d^2 = |\mu_a - \mu_b|^2 + \mathrm{tr}(C_a + C_b) - 2\,\mathrm{tr}\,(C_a^{1/2} C_b C_a^{1/2})^{1/2}

With factors :math:`C = L L^T` the last trace is the sum of the singular values of :math:`L_a^T L_b`. This form takes no
root of an eigenvalue that is zero up to rounding, so singular covariances (fewer images than features, constant pixels)
lose no digits. Like every FID the result is :math:`d^2`, and it is biased upwards for finite n: compare equal n only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Self

from ..errors import UserError
from .features import Features


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of `n` feature vectors of dimension `d`.

    Attributes:
        n: number of feature vectors, at least 2.
        mean: float64 `[d]`, on the CPU.
        cov: unbiased covariance (divisor `n - 1`), float64 `[d, d]`, on the CPU.
    """

    n: int
    mean: Tensor
    cov: Tensor

    @property
    def dim(self) -> int:
        """Number of features."""
        return len(self.mean)


class MomentAccumulator:
    """Mean and covariance of features that arrive in batches, in float64 on the CPU.

    Batches and accumulators of other processes are merged with the update of Chan, Golub and LeVeque (1979, eq. 2.1),
    which subtracts means before it squares: a large common offset costs no digits.
    """

    def __init__(self, dim: int) -> None:
        self.n = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)  # sum of (f - mean)(f - mean)^T

    def update(self, features: Tensor) -> Self:
        """Add features `[n, d]` of any real dtype and device.

        Raises:
            UserError: another dimension, or a feature that is not finite.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise UserError(f"features must have shape [n, {len(self.mean)}], not {list(features.shape)}")
        batch = features.detach().cpu().double()
        if not bool(torch.isfinite(batch).all()):
            raise UserError(f"features: {int((~torch.isfinite(batch)).sum())} values of a batch are NaN or infinite")
        if len(batch):
            mean = batch.mean(dim=0)
            centred = batch - mean
            self._merge(len(batch), mean, centred.T @ centred)
        return self

    def merge(self, other: MomentAccumulator) -> Self:
        """Add everything that another accumulator has seen. Raises UserError for another dimension."""
        if len(other.mean) != len(self.mean):
            raise UserError(f"moments of {len(other.mean)} and {len(self.mean)} features cannot be merged")
        if other.n:
            self._merge(other.n, other.mean, other.scatter)
        return self

    def _merge(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.n + n
        delta = mean - self.mean
        self.scatter += scatter + torch.outer(delta, delta) * (self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total

    def moments(self) -> Moments:
        """The moments so far. Raises UserError where fewer than two feature vectors were seen."""
        if self.n < 2:
            raise UserError(f"a covariance needs at least 2 images, not {self.n}")
        return Moments(self.n, self.mean.clone(), self.scatter / (self.n - 1))


def feature_moments(batches: Iterable[Tensor], features: Features) -> Moments:
    """Moments of the features of images that arrive in batches `[n, C, H, W]`, in normalised units."""
    accumulator = MomentAccumulator(features.dim)
    for images in batches:
        accumulator.update(features(images))
    return accumulator.moments()


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance (module formula) of two sets of moments, in squared units of the features.

    Symmetric, and zero for equal moments, up to a rounding error of about 1e-13 times the traces; where that alone
    makes it negative, zero is returned.

    Raises:
        UserError: different dimensions, fewer than two images, values that are not finite, or a matrix that is no
            covariance.
    """
    for moments in (a, b):
        _check(moments)
    if a.dim != b.dim:
        raise UserError(f"moments of {a.dim} and {b.dim} features cannot be compared: use the same features for both")
    cross = torch.linalg.svdvals(_factor(a.cov).T @ _factor(b.cov)).sum()  # tr (Ca^1/2 Cb Ca^1/2)^1/2
    traces = a.cov.trace() + b.cov.trace()
    distance = float((a.mean - b.mean).square().sum() + traces - 2 * cross)
    if not distance >= -1e-9 * float(traces):  # also true for NaN
        raise UserError(f"the Fréchet distance came out as {distance}: the moments are not those of real features")
    return max(distance, 0.0)


def _check(moments: Moments) -> None:
    if moments.n < 2:
        raise UserError(f"a Fréchet distance needs at least 2 images on each side, not {moments.n}")
    if moments.cov.shape != (moments.dim, moments.dim):
        raise UserError(f"a covariance of {moments.dim} features cannot have shape {list(moments.cov.shape)}")
    if not bool(torch.isfinite(moments.mean).all() and torch.isfinite(moments.cov).all()):
        raise UserError("moments hold NaN or infinite values: the features of some image are not finite")


def _factor(cov: Tensor) -> Tensor:
    """`L` `[d, r]` with `cov = L L^T`, without the directions that are zero up to rounding (r is the rank, or 1)."""
    values, vectors = torch.linalg.eigh(cov.double())
    rounding = float(values.abs().max()) * len(values) * torch.finfo(torch.float64).eps
    if float(values[0]) < -1e3 * rounding:
        raise UserError(f"a covariance has the negative eigenvalue {float(values[0]):.3g}: it is not one")
    keep = values > rounding
    keep[-1] = True
    return vectors[:, keep] * values[keep].clamp(min=0).sqrt()
