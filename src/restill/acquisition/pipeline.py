"""From samples to a store in three steps, for images and k-space alike: survey, corruption, write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.memory import return_freed_memory
from ..core.progress import Advance, silent
from ..corruption import Corruption
from ..io import ImageSource
from ..store.manifest import Contents, Normalisation, SigmaEstimate
from ..store.samples import Store, open_store
from ..store.writer import SHARD_BYTES, StoreWriter, check_free


class Samples(NamedTuple):
    """Some consecutive samples as the store keeps them, each tensor `[n, ...]` (`StoreWriter.append`).

    Attributes:
        y: normalised observations.
        parameters: of the operators, `sigma_n` among them.
        clean: the normalised images behind them, where they are known; called only if they are wanted.
        labels: classes, if there are any.
        scale: units of each sample, where these are not those of all.
    """

    y: Tensor
    parameters: dict[str, Tensor]
    clean: Callable[[], Tensor] | None = None
    labels: Tensor | None = None
    scale: Tensor | None = None


@dataclass(frozen=True)
class Plan:
    """Findings of a survey.

    Attributes:
        samples: all samples, to be read once.
        corruption: the corruption of the store; called before and after the samples, as it may follow from them.
        value_range: what becomes [-1, 1], in the units of the files.
        estimate: how the noise levels were estimated; None where they were stated.
        file_range: range of the values of an image in files, e.g. (0, 255); None where no range is known.
    """

    samples: Iterable[Samples]
    corruption: Callable[[], Corruption]
    value_range: tuple[float, float] = (-1.0, 1.0)
    estimate: SigmaEstimate | None = None
    file_range: tuple[float, float] | None = None


class Acquisition(ABC):
    """Samples on their way from foreign files to a store.

    Attributes:
        name: of the files, for provenance and messages; no absolute path.
        in_words: number and shape of the samples.
        image_shape: `(C, H, W)` of an image.
        total: how many samples `write` reports to `advance`, each as often as it is read.
        unit: what samples are called, in the plural.
        num_classes: number of classes; 0 without labels.
        classes: their names, where they have names.
        seed: of the randomness in the samples; None where there is none of ours.
        no_reference: why there are no clean images, with a remedy; None where there are.
    """

    name: str
    in_words: str
    image_shape: tuple[int, int, int]
    total: int
    unit: str = "images"
    num_classes: int = 0
    classes: tuple[str, ...] | None = None
    seed: int | None = None
    no_reference: str | None = None

    @abstractmethod
    def survey(self, advance: Advance) -> Plan:
        """Find everything that must be known before the first sample is written; reports samples to `advance`."""

    def of_images(self, source: ImageSource, image_shape: tuple[int, int, int], looks: int) -> None:
        """Set the attributes from a source of images, which the survey reads `looks` times."""
        found, images = (" x ".join(map(str, shape)) for shape in (source.shape, image_shape))
        self.name, self.image_shape, self.total = source.name, image_shape, len(source) * (1 + looks)
        self.in_words = f"{len(source):,} of {found}" + (f", of images {images}" if found != images else "")
        self.num_classes, self.classes = source.num_classes, source.classes

    def contents(self, plan: Plan) -> Contents:
        """Contents of the store of measurements."""
        corruption = plan.corruption()
        return Contents(
            kind="measurements",
            shape=corruption.shapes(self.image_shape).observation,
            image_shape=self.image_shape,
            normalisation=Normalisation.of_range(*plan.value_range),
            value_range=plan.value_range,
            classes=self.classes,
            corruption=corruption.describe(),
            values="complex" if corruption.is_complex else "real",
            file_range=plan.file_range,
        )


def write(
    acquisition: Acquisition,
    out: str | Path,
    reference: str | Path | None = None,
    advance: Advance = silent,
    shard_bytes: int = SHARD_BYTES,
) -> Store:
    """Write the store `out`, and clean images to `reference`: both, or neither.

    Args:
        advance: told of samples that are done, `Acquisition.total` in all.
        shard_bytes: approximate size of a shard.

    Raises:
        UserError: a path exists, there are no clean images for a reference, a file cannot be read, the disk is full.
    """
    out, reference = Path(out), None if reference is None else Path(reference)
    _check_paths(acquisition, out, reference)
    return_freed_memory()
    plan = acquisition.survey(advance)
    contents = acquisition.contents(plan)
    with ExitStack() as stack:  # left in reverse: the reference appears first, the measurements once all is written

        def writer(path: Path, contents: Contents, estimate: SigmaEstimate | None = None) -> StoreWriter:
            name, seed = acquisition.name, acquisition.seed
            made = StoreWriter(path, contents, source=name, seed=seed, estimate=estimate, shard_bytes=shard_bytes)
            return stack.enter_context(made)

        measured, clean = writer(out, contents, plan.estimate), None
        if reference is not None:
            of_images = {"kind": "reference", "shape": acquisition.image_shape, "corruption": None}
            clean = writer(reference, Contents(**{**dict(contents), **of_images}))
        for some in plan.samples:
            measured.append(some.y, some.parameters, some.labels, scale=some.scale)
            if clean is not None and some.clean is not None:
                clean.append(some.clean(), {"sigma_n": torch.zeros(len(some.y))}, some.labels, scale=some.scale)
            advance(done=len(some.y))
        measured.contents = acquisition.contents(plan)
        measured.seal()
        if clean is not None:
            clean.seal()
            measured.appears_after(clean)
    return open_store(out, verify=False)


def _check_paths(acquisition: Acquisition, out: Path, reference: Path | None) -> None:
    check_free(out)
    if reference is None:
        return
    if reference.resolve() == out.resolve():
        raise UserError(f"{out}: measurements and their reference must be two stores; choose another reference path")
    check_free(reference, partner=out)
    if acquisition.no_reference is not None:
        raise UserError(f"{reference}: {acquisition.no_reference}")
