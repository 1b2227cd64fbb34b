"""What is kept of a set of images that was streamed through a feature space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError
from ..core.processes import Processes
from .frechet import MomentAccumulator, Moments

KEPT = 10_000  # feature vectors for what needs pairs; the published protocols of KID and precision use as many or fewer


class FeatureSet:
    """Moments of all features of a set of images, and the first of the features themselves.

    Images are not kept: the features of a batch are added, and the batch is dropped. A set whose order has a meaning
    (folders of classes) must arrive in random order, because the first features represent all of them.

    Args:
        dim: number of features.
        keep: how many feature vectors are kept.

    Attributes:
        kept: the first of them, float32 `[min(n, keep), dim]` on the CPU.
    """

    def __init__(self, dim: int, keep: int = KEPT) -> None:
        self.dim, self.keep = dim, keep
        self._accumulator = MomentAccumulator(dim)
        self._kept: list[Tensor] = []
        self._moments: Moments | None = None

    @property
    def n(self) -> int:
        """Number of images so far."""
        return self._accumulator.n if self._moments is None else self._moments.n

    @property
    def kept(self) -> Tensor:
        if len(self._kept) != 1:
            self._kept = [torch.cat(self._kept) if self._kept else torch.empty(0, self.dim)]
        return self._kept[0]

    @property
    def moments(self) -> Moments:
        """Of all features so far. Raises UserError where there are fewer than two."""
        if self._moments is None:
            self._moments = self._accumulator.moments()
        return self._moments

    def update(self, features: Tensor) -> Self:
        """Add features `[n, dim]` on any device. Raises UserError for another dimension or values not finite."""
        room = self.keep - sum(len(part) for part in self._kept)
        self._accumulator.update(features)
        if room > 0:
            self._kept.append(features[:room].detach().float().cpu())
        self._moments = None
        return self

    @classmethod
    def of_moments(cls, moments: Moments) -> Self:
        """A set known by its moments alone, e.g. from a file of reference statistics."""
        known = cls(moments.dim, keep=0)
        known._moments = moments
        return known

    def tensors(self) -> tuple[Tensor, ...]:
        """The whole set as tensors: count int64 `[1]`, mean, scatter matrix, kept features."""
        accumulator = self._accumulator
        return torch.tensor([accumulator.n]), accumulator.mean, accumulator.scatter, self.kept

    def of_all(self, processes: Processes) -> FeatureSet:
        """The set of all processes that share the work, on every process, in the order of their shares."""
        if processes.count == 1:
            return self
        columns = [processes.gathered(tensor) for tensor in self.tensors()]
        return FeatureSet.merged(list(zip(*columns, strict=True)), self.keep)

    @classmethod
    def merged(cls, parts: Sequence[Sequence[Tensor]], keep: int = KEPT) -> Self:
        """One set from the `tensors()` of several, in their order. Raises UserError for different dimensions."""
        if len({len(mean) for _, mean, _, _ in parts}) != 1:
            raise UserError("sets of different numbers of features cannot be merged")
        whole = cls(len(parts[0][1]), keep)
        for n, mean, scatter, _ in parts:
            part = MomentAccumulator(whole.dim)
            part.n, part.mean, part.scatter = int(n), mean, scatter
            whole._accumulator.merge(part)
        whole._kept = [torch.cat([kept for *_, kept in parts])[:keep]]
        return whole


class Parts:
    """Sets of some of the images of a stream, by their place in it.

    Args:
        dim: number of features.
        places: of the images in each set, consecutive ones.
        first: place of the first image that arrives here.
    """

    def __init__(self, dim: int, places: Sequence[range], first: int = 0) -> None:
        self.sets = [FeatureSet(dim) for _ in places]
        self.places, self._place = places, first

    def update(self, features: Tensor) -> None:
        """Add features `[n, dim]` of the next images."""
        for places, known in zip(self.places, self.sets, strict=True):
            start, stop = (max(0, place - self._place) for place in (places.start, places.stop))
            if len(features[start:stop]):
                known.update(features[start:stop])
        self._place += len(features)

    def of_all(self, processes: Processes) -> list[FeatureSet]:
        """The sets of all processes that share the work, which arrive in the order of their shares."""
        return [known.of_all(processes) for known in self.sets]
