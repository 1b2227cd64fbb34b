"""`corrupt_images`: clean images to a store of measurements, in one seeded pass; magnitudes get a phase for MRI."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..core.tensors import seeded
from ..corruption import Corruption, Loss
from ..io import Image, ImageSource
from ..store.manifest import Normalisation
from ..store.samples import Store
from ..store.writer import SHARD_BYTES
from .pipeline import Acquisition, Plan, Samples, write
from .value_range import Block, blocks, extremes

_STD, _POINTS = 0.7, 4  # radians at each of 4 x 4 control points, between which the phase is bicubic

_LOUDEST = 1000  # noise, in units of half the range of the images


class CleanImages(Acquisition):
    """Clean images; each is measured once (`corrupt_images`)."""

    def __init__(
        self, source: ImageSource, corruption: Corruption, seed: int, value_range: tuple[float, float] | None = None
    ) -> None:
        self.source = with_phase(source, seed) if corruption.is_complex else source
        self._file_range = None if corruption.is_complex else source.value_range
        if corruption.sigma_max > _LOUDEST and not corruption.loses(Loss.PHOTONS):
            raise UserError(
                f"corruption.sigma_n {corruption.sigma_max:g} hides every image: it is in units in which images span "
                f"[-1, 1]; state {_LOUDEST} at most"
            )
        if value_range is not None:
            low, high = value_range
            stated = (-high, high) if corruption.is_complex else (low, high)
            self.source = dataclasses.replace(self.source, value_range=stated)
        self.corruption, self.seed, self._seed = corruption, seed, seed
        self.of_images(self.source, self.source.shape, looks=0 if self.source.value_range else 1)

    def survey(self, advance: Advance) -> Plan:
        value_range = extremes(self.source, self.corruption.is_complex, advance)
        normalised = blocks(self.source, Normalisation.of_range(*value_range))
        return Plan(map(self._measured, normalised), lambda: self.corruption, value_range, file_range=self._file_range)

    def _measured(self, block: Block) -> Samples:
        y, parameters = [], []
        for i, x in enumerate(block.x.split(1), start=block.start):
            generator = seeded("corrupt", self._seed, i)
            operator = self.corruption.draw(1, tuple(x.shape[1:]), generator)
            y.append(self.corruption.corrupt(x, operator, generator))
            parameters.append(operator.parameters())
        joined = {name: torch.cat([each[name] for each in parameters]) for name in parameters[0]}
        return Samples(torch.cat(y), joined, lambda: block.x, block.labels)


def corrupt_images(
    source: ImageSource,
    corruption: Corruption,
    out: str | Path,
    reference: str | Path | None = None,
    seed: int = 0,
    advance: Advance = silent,
    shard_bytes: int = SHARD_BYTES,
    value_range: tuple[float, float] | None = None,
) -> Store:
    """Measure every image of `source` once and write the measurements, and nothing clean, to the store `out`.

    Operator and noise of image `i` are drawn with `seeded("corrupt", seed, i)` and depend on nothing else, so the same
    seed writes the same shards. The range of values (nominal, or the smallest and the largest value of the data, found
    in a pass before) becomes [-1, 1]. Where the corruption is of complex images, the magnitudes of a source of one
    channel get a smooth random phase (`with_phase`), 0 stays 0 and the largest magnitude becomes 1.

    Args:
        reference: where to write the clean images, normalised alike, for `evaluate`; None for nowhere.
        advance, shard_bytes: see `write`.
        value_range: what becomes [-1, 1] instead, in the units of the files.

    Raises:
        UserError: as `write`, or a corruption that does not measure such images.
    """
    return write(CleanImages(source, corruption, seed, value_range), out, reference, advance, shard_bytes)


def with_phase(source: ImageSource, seed: int) -> ImageSource:
    """Images `[2, H, W]`, real and imaginary part, whose magnitudes are those of `source`.

    The phase is smooth, as transmit field, coil and off-resonance leave it; that of image `i` is drawn with
    `seeded("phase", seed, i)`. Images that have two channels already are complex and stay as they are.

    Raises:
        UserError: neither one channel nor two; while iterating, a magnitude below 0.
    """
    channels, height, width = source.shape
    if channels == 2:
        return source
    if channels != 1:
        raise UserError(
            f"{source.name}: has images of {channels} channels; MRI is simulated from magnitudes (one channel) or from "
            "real and imaginary parts (two)"
        )

    def passes() -> Iterator[tuple[str, Image]]:
        for i, (where, image) in enumerate(source.passes()):
            if image.min() < 0:
                raise UserError(f"{where}: holds {image.min():g}; magnitudes must be at least 0")
            control = torch.randn(1, 1, _POINTS, _POINTS, generator=seeded("phase", seed, i)) * _STD
            phase = F.interpolate(control, size=(height, width), mode="bicubic", align_corners=True)[0, 0].numpy()
            yield where, (image[0] * np.stack([np.cos(phase), np.sin(phase)])).astype(np.float32)

    value_range = None if source.value_range is None else (-source.value_range[1], source.value_range[1])
    return dataclasses.replace(source, shape=(2, height, width), value_range=value_range, passes=passes)
