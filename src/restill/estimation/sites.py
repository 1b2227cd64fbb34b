"""Sites where images may hold little besides noise: their smooth patches, or pixels that hardly vary between images.

What is quiet is learned from one half of a set and measured on the other, so that nothing is chosen for its own small
values. Which kind of site is the quieter depends on the data set: patches of photographs, scans and drawings; pixels
at the border of 8x8 digits.

*Patches.* The bands of a patch (`coefficients.py`) are ranked by their mean square. The quietest third measures the
noise, the second the content beside it, and the loudest says how smooth the patch is: the three have independent
noise, so that a patch is never chosen for quiet noise. Patches are ranked within their image, so that every image
counts alike, whatever its own noise; across images only where an image has few.

*Pixels*, in components of colour, about their mean over the images, in groups of like variance. The content beside a
group is that of the next louder group.

What holds no noise is left out: padding, masked or saturated regions. It shows as values that are equal over the
images, or over 3x3 pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .coefficients import Bands, bands_of, blocks
from .content import Tally

SIDES = (8, 4)  # of patches; the larger in images of twice their size at least
QUIET_PART = 0.25  # of the patches of an image that its own level is measured on at least
_ENDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # between bins, as parts of all patches
_FEW_PATCHES = 8  # in an image, below which patches are ranked across images
_LEAST_VALID = 0.05  # part of the patches; if fewer seem to hold noise, the rule is not right for these images
_FEW_IMAGES = 4  # in a half, below which pixels have no variance to speak of
_FLAT = 3  # side of a square of equal values that no noise leaves


class Reading(NamedTuple):
    """Of every site of images; all `[n, sites]`.

    Attributes:
        quiet, louder: mean squares of its coefficients.
        bin: number of its bin, 0 for the least content; -1 where a site holds no noise.
    """

    quiet: Tensor
    louder: Tensor
    bin: Tensor

    def tally(self, bins: int) -> Tally:
        """Sums for every image."""
        kept = (self.bin >= 0).to(self.quiet)
        where = self.bin.clamp_min(0)
        empty = torch.zeros(len(self.bin), bins, dtype=self.quiet.dtype)
        parts = (kept, self.quiet * kept, self.louder * kept)
        return Tally(*(empty.scatter_add(1, where, part) for part in parts))


class Sites(ABC):
    """Sites learned from one half of the images.

    Attributes:
        name: in words, for the record.
        tolerance: how much the ratio of quiet and louder content varies between bins.
        freedom: coefficients of a site.
        bins: number of bins.
        enough: number of quietest bins that hold at least a few sites of every image.
    """

    name: ClassVar[str]
    tolerance: ClassVar[float]
    freedom: int
    bins: int
    enough: int

    @abstractmethod
    def read(self, images: Tensor) -> Reading:
        """Of images `[n, C, H, W]`, float64."""

    @abstractmethod
    def white(self, noise: Tensor) -> Tensor:
        """Images that hold this noise `[n, C, H, W]` and nothing else."""


class Patches(Sites):
    """Patches of `side` pixels."""

    name, tolerance, bins = "smooth patches", 0.12, len(_ENDS) + 1

    def __init__(self, images: Tensor, side: int) -> None:
        self._bands: Bands = bands_of(images, side)
        self._dead = (images == images[:1]).all(0).all(0)  # [H, W]
        self._few = self._bands.patches(*images.shape[2:]) < _FEW_PATCHES
        self.enough = self.bins if self._few else sum(end < QUIET_PART for end in _ENDS) + 1
        squares = self._bands.mean_squares(images, self._valid(images))
        order = squares.argsort()
        self.freedom = max(1, round(len(order) / 3))
        self._filters = self._bands.filters[order]
        self._weights = 1 / squares[order[2 * self.freedom :]].clamp_min(1e-300)

    def read(self, images: Tensor) -> Reading:
        parts = []
        for rows in blocks(images):
            squares = self._bands.coefficients(images[rows], self._filters).square()
            quiet, louder, rest = squares.tensor_split((self.freedom, 2 * self.freedom), dim=1)
            parts.append((quiet.mean(1), louder.mean(1), (rest * self._weights[:, None]).mean(1)))
        quiet, louder, content = (torch.cat(part) for part in zip(*parts, strict=True))
        valid = self._valid(images)
        rank = _ranks(content.masked_fill(~valid, torch.inf), across=self._few)
        bin_ = torch.bucketize(rank, torch.tensor(_ENDS, dtype=rank.dtype))
        return Reading(quiet, louder, bin_.masked_fill(~valid, -1))

    def white(self, noise: Tensor) -> Tensor:
        return noise

    def _valid(self, images: Tensor) -> Tensor:
        """Which patches hold noise everywhere, bool `[n, patches]`."""
        side, stride = self._bands.side, self._bands.stride
        dead = F.max_pool2d(self._dead.to(images)[None, None], side, stride)
        most, least = (sign * F.max_pool2d(sign * images, _FLAT, 1) for sign in (1, -1))
        flat = F.max_pool2d((most == least).all(1, keepdim=True).to(images), side - _FLAT + 1, stride)
        valid = ((dead == 0) & (flat == 0)).flatten(1)
        return valid if valid.double().mean() > _LEAST_VALID else torch.ones_like(valid)


class Pixels(Sites):
    """Single pixels, each a site with one coefficient."""

    name, tolerance, freedom = "pixels that hardly vary between images", 1.0, 1

    def __init__(self, images: Tensor) -> None:
        self._mean = images.mean(0)
        self._mixing = bands_of(images, 1).mixing
        self._unbiased = len(images) / (len(images) + 1)  # the mean of n other images varies too
        variance = self._mixed(images).var(0)
        order = variance.argsort()
        self._order = order[variance[order] > torch.finfo(torch.float32).eps ** 2 * variance.max()]
        self._sizes = _doubling(len(self._order))
        self.bins = len(self._sizes) - 1
        self.enough = max(1, self.bins - 2)  # about an eighth of the pixels

    def read(self, images: Tensor) -> Reading:
        squares = self._mixed(images)[:, self._order].square() * self._unbiased
        groups = squares.split(self._sizes, dim=1)
        louder = [group.mean(1, keepdim=True) for group in groups[1:]]
        sizes = self._sizes[:-1]
        beside = torch.cat([next_.expand(-1, size) for next_, size in zip(louder, sizes, strict=True)], 1)
        bin_ = torch.arange(self.bins).repeat_interleave(torch.tensor(sizes)).expand(len(images), -1)
        return Reading(squares[:, : sum(sizes)], beside, bin_)

    def white(self, noise: Tensor) -> Tensor:
        return self._mean + noise

    def _mixed(self, images: Tensor) -> Tensor:
        return torch.einsum("nchw,cd->ndhw", images - self._mean, self._mixing).flatten(1)


def sites_of(parts: list[Tensor]) -> list[list[Sites]]:
    """Every kind of site that images of this size and number have, learned from each half of them."""
    smallest = min(parts[0].shape[2:])
    sides = [side for side in SIDES if side == min(SIDES) or 2 * side <= smallest]
    kinds: list[list[Sites]] = [[Patches(part, side) for part in parts] for side in sides]
    if min(len(part) for part in parts) >= _FEW_IMAGES:
        kinds.append([Pixels(part) for part in parts])
    return kinds


def _ranks(values: Tensor, across: bool) -> Tensor:
    """Rank of each value `[n, sites]` in its row, or among all, as a part of the finite ones, between 0 and 1."""
    rows = values.reshape(1, -1) if across else values
    ranks = rows.argsort(1).argsort(1).to(values.dtype) + 0.5
    return (ranks / rows.isfinite().sum(1, keepdim=True).clamp_min(1)).reshape(values.shape)


def _doubling(count: int) -> list[int]:
    """Sizes of groups of `count` pixels: a 64th of all, as many again, and then as many as all before."""
    sizes, done = [max(1, count // 64)], max(1, count // 64)
    while done < count:
        sizes.append(min(done, count - done))
        done += sizes[-1]
    return sizes
