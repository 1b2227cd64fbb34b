r"""Metrics of two sets of images in one feature space: KID, Inception score, and those of nearest neighbours.

KID and the Inception score are torchmetrics', on features that are already there; it is imported where it is used, for
that takes seconds. Precision, recall, density and coverage ask which features lie in which balls, where the ball of
a feature reaches to its k-th nearest neighbour in its own set. A matrix product in float32 answers that for nearly all
pairs; those nearer to the edge of a ball than the product's rounding error are settled by differences in float64. So
duplicates are at distance 0 and inside every ball, and no matrix of all pairs is held.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import mix_seed, wide_dtype
from .estimate import Estimate, check_finite, mean_estimate
from .neighbours import nearest

SUBSETS, SUBSET_SIZE, SPLITS = 100, 1000, 10  # as published: arXiv 1801.01401, 1606.03498
_BLOCK = 1 << 23  # numbers in the largest intermediate tensor
_EDGE = 1e-12  # relative width of the edge of a ball, where two orders of summation can disagree in float64


def kid_settings(n: int, m: int, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE) -> dict[str, int]:
    """What `kernel_distance` uses for sets of n and m images: a subset is at most the smaller set."""
    return {"subsets": subsets, "subset_size": min(subset_size, n, m)}


def kernel_distance(
    a: Tensor, b: Tensor, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE, seed: int = 0
) -> Estimate:
    """The kernel (Inception) distance: the squared maximum mean discrepancy with the kernel `(x.y/d + 1)^3`.

    The mean of the unbiased estimate over random subsets (KID: Binkowski et al. 2018, arXiv 1801.01401, section 4), in
    float64. It is unbiased for any number of images, so it can be negative.

    Args:
        a: features `[n, d]` of one set of images, real.
        b: features `[m, d]` of the other.
        subsets: how many are drawn.
        subset_size: images of each set in a subset; less where a set is smaller (`kid_settings` says what was used).
        seed: of the subsets; torch's global random state is left alone.

    Returns:
        The mean, and the standard deviation over the subsets (divisor: their number), as KID is published. None where
        a subset is more than half of a set: such subsets are nearly the same, and their spread means nothing.

    Raises:
        UserError: fewer than two images, other shapes, or features that are not finite.
    """
    _check_pair(a, b, at_least=2, what="a kernel distance")
    used = kid_settings(len(a), len(b), subsets, subset_size)
    if used["subset_size"] < 2 or subsets < 1:
        raise UserError(
            f"a kernel distance needs at least 1 subset of at least 2 images, not {subsets} of {subset_size}"
        )
    with _reproducible("kid", seed):
        from torchmetrics.image.kid import KernelInceptionDistance

        metric = KernelInceptionDistance(
            torch.nn.Identity(), used["subsets"], used["subset_size"], sync_on_compute=False
        )  # features of all processes are here already
        metric.update(b.cpu().double(), real=True)
        metric.update(a.cpu().double(), real=False)
        mean, std = metric.compute()
    if 2 * used["subset_size"] > min(len(a), len(b)) or subsets < 2:
        return Estimate(float(mean), None, None)
    return Estimate(float(mean), float(std), "subsets")


def inception_settings(n: int, splits: int = SPLITS) -> dict[str, int]:
    """What `inception_score` uses for n images: at most so many splits that each holds as many images as there are."""
    return {"splits": max(1, min(splits, math.isqrt(n)))}


def inception_score(logits: Tensor, splits: int = SPLITS, seed: int = 0) -> Estimate:
    """The Inception score `exp(E KL(p(class|image) || p(class)))`, mean over splits (Salimans et al. 2016, section 4).

    Between 1 (all images alike to the classifier, or all undecided) and the number of classes. It knows no reference,
    and grows with the images of a split: compare equal n only.

    Args:
        logits: unnormalised log-probabilities `[n, k]` of a classifier, k at least 2.
        splits: parts of the set, in random order; fewer where there are few images (`inception_settings`).
        seed: of that order; torch's global random state is left alone.

    Returns:
        The mean, and the standard deviation over the splits, as the score is published (None for one split).

    Raises:
        UserError: fewer than two images, another shape, or logits that are not finite or too far apart.
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or len(logits) < 2 or splits < 1:
        raise UserError(
            f"an Inception score needs logits [n, k], n and k at least 2, and at least 1 split, "
            f"not {list(logits.shape)} and {splits}"
        )
    check_finite(logits, "logits")
    used = inception_settings(len(logits), splits)
    with _reproducible("inception-score", seed):
        from torchmetrics.image.inception import InceptionScore

        metric = InceptionScore(torch.nn.Identity(), used["splits"], sync_on_compute=False)
        metric.update(logits.cpu().double())
        mean, std = metric.compute()
    if not bool(mean.isfinite()):
        raise UserError("logits: a probability is 0; an Inception score needs logits within about 700 of each other")
    return Estimate(float(mean), float(std), "splits") if used["splits"] > 1 else Estimate(float(mean), None, None)


class PrecisionRecall(NamedTuple):
    """`precision`: share of generated images that look real. `recall`: share of real images that could be generated."""

    precision: Estimate
    recall: Estimate


class DensityCoverage(NamedTuple):
    """`density`: how densely real images lie around generated ones. `coverage`: share of real images with one near."""

    density: Estimate
    coverage: Estimate


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991, eqs. 1 and 2).

    Precision is the share of `fake` inside the ball of any real feature; recall the share of `real` inside the ball of
    any fake one. Both depend on the numbers of images: compare equal ones only.

    Args:
        real: features `[n, d]` of the reference.
        fake: features `[m, d]` of the images to be judged, on the same device.
        k: the neighbour in its own set (itself left out) to which the ball of a feature reaches.

    Returns:
        Each share with its standard error over the images that are counted; the balls are taken as given.

    Raises:
        UserError: k images or fewer in a set, other shapes, or features that are not finite.
    """
    _check_pair(real, fake, at_least=k + 1, what=f"neighbour metrics with k = {k}")
    balls = (_radii(real, k)[None], _radii(fake, k)[:, None])
    (of_fake, _), (_, of_real) = _counts(fake, real, balls)
    return PrecisionRecall(mean_estimate((of_fake > 0).double()), mean_estimate((of_real > 0).double()))


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, arXiv 2002.09797, section 3), which outliers do not mislead.

    Density is the mean number of real balls around a feature of `fake`, divided by k: about 1 for equal distributions,
    and more where the generated images keep to dense places. Coverage is the share of real balls that hold a fake one.
    Arguments, the standard errors and UserError are as for `precision_recall`, but one image to be judged is enough.
    """
    _check_pair(real, fake, at_least=k + 1, what=f"neighbour metrics with k = {k}", at_least_second=1)
    ((of_fake, of_real),) = _counts(fake, real, (_radii(real, k)[None],))
    return DensityCoverage(mean_estimate(of_fake.double() / k), mean_estimate((of_real > 0).double()))


def _radii(features: Tensor, k: int) -> Tensor:
    return nearest(features, features, k, exclude_self=True)[0][:, -1] * (1 + _EDGE)


def _counts(rows: Tensor, columns: Tensor, radii: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For each of the radii, how many pairs of a row and a column are no further apart: by row, and by column.

    `radii` are `[1, n]` where balls are around the columns, `[m, 1]` where they are around the rows. One block of
    distances serves all of them.
    """
    mean = columns.mean(dim=0, dtype=wide_dtype(columns.device))
    a, b = (rows - mean).float(), (columns - mean).float()
    zero = torch.zeros(1, dtype=torch.int64, device=rows.device)
    counts = [(zero.repeat(len(rows)), zero.repeat(len(columns))) for _ in radii]
    step = max(1, _BLOCK // len(columns))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        sums = a[part].square().sum(dim=1)[:, None] + b.square().sum(dim=1)
        squared = sums - 2 * a[part] @ b.T
        doubt = sums.mul_(torch.finfo(torch.float32).eps * (a.shape[1] + 4))  # bound of the rounding error
        for (by_row, by_column), radius in zip(counts, radii, strict=True):
            near = _near(squared, doubt, radius if len(radius) == 1 else radius[part], rows[part], columns)
            by_row[part] = near.sum(dim=1)
            by_column += near.sum(dim=0)
    return counts


def _near(squared: Tensor, doubt: Tensor, radius: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Boolean `[m, n]`: whether a row and a column are no further apart than the radius."""
    excess = squared - radius.square().float()
    near = excess <= 0
    wide, radius = wide_dtype(rows.device), radius.expand_as(squared)
    for pairs in (excess.abs_() <= doubt).nonzero().split(max(1, _BLOCK // rows.shape[1])):
        i, j = pairs.unbind(dim=1)
        distance = (rows[i].to(wide) - columns[j].to(wide)).square().sum(dim=1).sqrt()
        near[i, j] = distance <= radius[i, j]
    return near


def _check_pair(a: Tensor, b: Tensor, at_least: int, what: str, at_least_second: int | None = None) -> None:
    second = at_least if at_least_second is None else at_least_second
    real = a.is_floating_point() and b.is_floating_point()
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not real:
        raise UserError(f"{what} take real features [n, d] and [m, d], not {list(a.shape)} and {list(b.shape)}")
    if len(a) < at_least or len(b) < second:
        raise UserError(f"{what}: needs sets of at least {at_least} and {second} images, not {len(a)} and {len(b)}")
    for features in (a, b):
        check_finite(features, "features")


@contextmanager
def _reproducible(name: str, seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator, which torchmetrics draws from, and give it back as it was."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `.*will save all extracted features")
        warnings.filterwarnings("ignore", message=r"std\(\): degrees of freedom")  # of one split; reported as None
        torch.default_generator.manual_seed(mix_seed(name, seed))
        yield
