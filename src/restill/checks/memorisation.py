r"""Does a generator copy its training data? The test needs neither clean images nor held-out data.

If a generator reproduces the image behind a measurement, then that image, corrupted anew, is nearer to the measurement
than two measurements are to each other. The test therefore compares the distances of generated images, corrupted anew,
to their nearest measurement with those of the measurements to their nearest other one (leave-one-out, or of held-out
measurements), by the Mann-Whitney statistic :math:`z` of Meehan, Chaudhuri and Dasgupta (arXiv 2004.05675; here over
the whole space at once, not cell by cell). :math:`z \ll 0` means copying, or images less varied than the data.
Neighbours share distances, so the standard deviation of :math:`z` is about 1.1 to 1.2 if nothing is copied; hence the
limit of 4.

Images that are merely smoother than the data are near to every measurement. The ratio of the distances to the nearest
and the second nearest measurement, which is small for a copy, tells the two apart. It is compared in the same way.

Noise hides copies. The test measures how many it would notice: the generated images play the data, one corruption of
them the measurements, and a second one perfect copies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import mix_seed
from ..corruption import Corruption
from ..metrics.neighbours import nearest
from ..metrics.proximal import recorrupted
from ..metrics.results import Check, Subject

Z_LIMIT = 4.0  # of |z|
TWIN = 0.05  # of the root mean square distance of two images whose pixels are independent
TWIN_SHARE = 0.01  # of images with a twin, from which on there is a warning


@dataclass(frozen=True)
class Memorisation:
    """How near generated images lie to the measurements.

    Attributes:
        z: Mann-Whitney statistic; far below 0 for copies.
        z_ratio: the same statistic of the ratios of the two smallest distances; below 0 for copies, not for smoothness.
        area: chance that a generated image is farther from its nearest measurement than a measurement is from its
            own, 0 to 1; 0.5 where nothing is copied.
        z_copy: what `z` would be about if every image behind a measurement were reproduced.
        n: number of measurements.
        images: number of generated images.
        held_out: number of held-out measurements; 0 for leave-one-out.
    """

    z: float
    z_ratio: float
    area: float
    z_copy: float
    n: int
    images: int
    held_out: int

    @property
    def copied(self) -> float:
        """Approximate share of copies among the generated images, 0 to 1, if only copying moved `z`."""
        return min(max(self.z / self.z_copy, 0.0), 1.0) if self.z_copy < 0 else 0.0

    @property
    def noticeable(self) -> float:
        """Approximate share of copies that exceeds the limit half of the time; more than 1 if none does."""
        return Z_LIMIT / -self.z_copy if self.z_copy < 0 else math.inf


def memorisation(
    measurements: Tensor,
    images: Tensor,
    corruption: Corruption,
    seed: int,
    held_out: Tensor | None = None,
) -> Memorisation:
    """Compare the distances of re-corrupted generated images to the measurements with those among the measurements.

    10,000 images and measurements of 3 x 32 x 32 take about a minute on one core. The simulated `z_copy` uses as many
    pseudo-measurements as there are images: with far fewer images than measurements it overstates the effect of copies.

    Args:
        measurements: on the image grid (`to_image(y)`), `[n, C, H, W]` in normalised units, n at least 3.
        images: generated, `[m, C, H, W]`, m at least 3, on the same device.
        corruption: of the measurements.
        seed: of operators and noise.
        held_out: measurements that nothing was trained on, `[h, C, H, W]`, instead of leave-one-out.

    Raises:
        UserError: fewer than three of either, shapes that do not match, or values that are not finite.
    """
    _check(measurements, images, held_out)
    y = measurements.flatten(1)
    distances = nearest(_corrupted(images, corruption, seed), y, 2)[0]
    among = nearest(y, y, 2, exclude_self=True)[0] if held_out is None else nearest(held_out.flatten(1), y, 2)[0]
    z, area = mann_whitney(distances[:, 0], among[:, 0])
    return Memorisation(
        z=z,
        z_ratio=mann_whitney(_ratio(distances), _ratio(among))[0],
        area=area,
        z_copy=(_area_of_copies(images, corruption, seed) - 0.5) / _spread(len(images), len(among)),
        n=len(y),
        images=len(images),
        held_out=0 if held_out is None else len(held_out),
    )


def _ratio(distances: Tensor) -> Tensor:
    """The smallest distance by the second smallest, `[n]`."""
    return torch.where(distances[:, 1] > 0, distances[:, 0] / distances[:, 1], 0.0)


def _check(measurements: Tensor, images: Tensor, held_out: Tensor | None) -> None:
    if len(measurements) < 3 or len(images) < 3:
        found = f"{len(measurements)} and {len(images)}"
        raise UserError(f"memorisation needs at least 3 measurements and 3 images, not {found}")
    if held_out is not None and not len(held_out):
        raise UserError("memorisation: held_out is empty; omit it for leave-one-out")


def mann_whitney(a: Tensor, b: Tensor) -> tuple[float, float]:
    r"""The Mann-Whitney test of two samples `[n]` and `[m]`, with the correction for ties.

    Returns:
        :math:`z = (U - nm/2) / \mathrm{std}(U)`, below 0 where `a` tends to be smaller, and :math:`U/nm`, the chance
        that a value of `a` exceeds one of `b` (ties count half); z is 0 where all values are equal.

    Source: H. B. Mann, D. R. Whitney, Annals of Mathematical Statistics 18 (1947); the variance with ties is that of
    E. L. Lehmann, Nonparametrics (1975).
    """
    a, b = a.cpu().double().contiguous(), b.cpu().double().sort().values
    below = torch.searchsorted(b, a) + torch.searchsorted(b, a, right=True)  # twice the number below, ties half
    area = float(below.double().mean()) / (2 * len(b))
    counts = torch.cat([a, b]).unique(return_counts=True)[1].double()
    total = len(a) + len(b)
    ties = 1 - float((counts**3 - counts).sum()) / (total**3 - total)
    return (area - 0.5) / (_spread(len(a), len(b)) * math.sqrt(ties)) if ties > 0 else 0.0, area


def _spread(n: int, m: int) -> float:
    """Standard deviation of `U/nm` of independent samples of `n` and `m` without ties."""
    return math.sqrt((n + m + 1) / (12 * n * m))


def _area_of_copies(images: Tensor, corruption: Corruption, seed: int) -> float:
    """`area` of perfect copies, if the generated images were the data."""
    measured, copies = (_corrupted(images, corruption, mix_seed("copies", seed, i)) for i in range(2))
    among = nearest(measured, measured, 1, exclude_self=True)[0]
    return mann_whitney(nearest(copies, measured, 1)[0][:, 0], among[:, 0])[1]


def _corrupted(images: Tensor, corruption: Corruption, seed: int) -> Tensor:
    return torch.cat(list(recorrupted([images], corruption, seed))).flatten(1)


def twin_share(images: Tensor, sigma_data: float) -> float:
    """Share of generated images that have a near twin among the others.

    A twin is an image whose root mean square difference is at most 5% of that of two images with independent pixels,
    `sqrt(2) sigma_data`. Images are compared as they are, not corrupted.

    Args:
        images: generated, `[m, C, H, W]` in normalised units, m at least 2.
        sigma_data: standard deviation of the clean data in normalised units.

    Raises:
        UserError: fewer than two images, values that are not finite, or a `sigma_data` that is not positive.
    """
    if len(images) < 2 or not 0 < sigma_data < math.inf:
        raise UserError(f"twins need at least 2 images and sigma_data above 0, not {len(images)} and {sigma_data}")
    x = images.flatten(1)
    distances = nearest(x, x, 1, exclude_self=True)[0]
    return float((distances <= TWIN * sigma_data * math.sqrt(2 * x.shape[1])).float().mean())


def memorisation_check(found: Memorisation, subject: Subject) -> Check:
    """The result of `memorisation` in words. Its value is `z`."""
    return Check(
        name="memorisation",
        subject=subject,
        value=found.z,
        std=None,
        status="warning" if found.z < -Z_LIMIT else "info" if found.noticeable > 1 else "ok",
        sentence=_words(found),
        settings={
            "images": found.images, "measurements": found.n, "held_out": found.held_out, "z_copy": found.z_copy,
            "z_ratio": found.z_ratio, "area": found.area, "limit": Z_LIMIT,
        },
    )  # fmt: skip


def _words(found: Memorisation) -> str:
    power = f"a generator that copies every measurement gives about z = {found.z_copy:.1f}"
    reference = "held-out measurements are" if found.held_out else "these are to each other"
    if found.z < -Z_LIMIT:
        return (
            f"The re-corrupted generated images lie nearer to the measurements than {reference} "
            f"(z = {found.z:.1f}), as if about {found.copied:.0%} of them were copies of training data ({power}), or "
            f"as if they were smoother or less varied than the data. {_speaks_for(found)} The report shows "
            "generated images beside their nearest measurements: compare them."
        )
    if found.noticeable > 1:
        return (
            f"These measurements cannot tell whether the generator copies its training data: {power}, which is "
            f"in the chance range of a generator that copies nothing (found: z = {found.z:.1f})."
        )
    if found.z > Z_LIMIT:
        return (
            f"The re-corrupted generated images lie farther from the measurements than {reference} "
            f"(z = {found.z:.1f}): no sign of memorisation ({power}), but they differ from the data in another way, "
            "which can hide a small share of copies."
        )
    return (
        f"No sign of memorisation: the re-corrupted generated images are as far from the measurements as "
        f"{reference} (z = {found.z:.1f}; {power}). A share of copies above about "
        f"{found.noticeable:.0%} would have been noticed."
    )


def _speaks_for(found: Memorisation) -> str:
    """Which of the two is more likely."""
    if found.z_ratio < -Z_LIMIT:
        return (
            "The nearest measurement stands out from the second nearest more than within the data "
            f"(z = {found.z_ratio:.1f} of the ratios of the two distances), which suggests copies."
        )
    return (
        "The nearest measurement does not stand out from the second nearest more than within the data "
        f"(z = {found.z_ratio:.1f} of the ratios of the two distances), which suggests the latter; this test misses a "
        "few copies among many smooth images."
    )


def twin_check(share: float, count: int, subject: Subject) -> Check:
    """The result of `twin_share` among `count` images in words. Its value is the share."""
    warn = share > TWIN_SHARE
    return Check(
        name="duplicates",
        subject=subject,
        value=share,
        std=math.sqrt(share * (1 - share) / count),
        status="warning" if warn else "ok",
        sentence=(
            f"{share:.1%} of {count} generated images have a near twin among the others (a root mean square difference "
            f"below {TWIN:.0%} of that of unrelated images): "
            + ("the generator, or the data, repeats itself." if warn else "the generator does not repeat itself.")
        ),
        settings={"images": count, "twin": TWIN, "limit": TWIN_SHARE},
    )
