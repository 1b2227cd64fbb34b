"""A trained generator for people who only draw images. It imports no training code and needs no data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import NetworkConfig, load_network
from .core.errors import UserError
from .core.tensors import seeded
from .diffusion import Denoiser
from .sampling import OneStep, Sampler, generate
from .sampling.classes import Labels


class Generator:
    """A one-step generator and what is needed to use its images.

    Attributes:
        denoiser: the network.
        config: shapes, units, and the corruption of the measurements that it was trained on.
        sampler: how images are drawn; in one step by default, as from a student.
        classes: how often each class is drawn; None where the network is not class-conditional.
        batch_size: default number of images drawn at a time.
    """

    def __init__(
        self, denoiser: Denoiser, config: NetworkConfig, sampler: Sampler | None = None, batch_size: int = 256
    ) -> None:
        if sampler is None and config.init_sigma is None:
            raise UserError("a teacher is not a one-step generator; give the student's folder, or use load_denoiser")
        self.denoiser, self.config, self.batch_size = denoiser, config, batch_size
        self.sampler = OneStep(init_sigma=config.init_sigma or 0.0) if sampler is None else sampler
        self.classes = config.drawn_classes

    @property
    def in_words(self) -> str:
        """How images are drawn: the sampler, and the classes where there are any."""
        return repr(self.sampler) if self.classes is None else f"{self.sampler!r}; {self.classes.in_words}"

    def sample(
        self,
        n: int,
        seed: int = 0,
        *,
        start: int = 0,
        batch_size: int | None = None,
        labels: Labels | None = None,
    ) -> Tensor:
        """Images `start` to `start + n - 1` of a seed, `[n, C, H, W]`, float32 on the CPU, normalised to [-1, 1].

        Image `k` of a seed is the same in every call (up to rounding between batch sizes). Complex images
        (`config.complex_values`) have real and imaginary parts as channels, in turn, with magnitudes up to about 1:
        `restill.core.tensors.channels_to_complex` returns complex numbers `[n, 1, H, W]`, and `restill.core.views`
        converts them to magnitudes or phase colours.

        A class-conditional generator draws classes as frequent as in its training data, the class of image `k` from the
        seed and `k`; `labels` states them instead.

        Args:
            labels: one class for all images, or one for each: a name, or an index from 0.

        Raises:
            UserError: n below 1, a class that is not known or was not in the data, or any class of a generator that
                is not class-conditional.
        """
        if n < 1:
            raise UserError(f"n must be at least 1, not {n}")
        chosen = None if labels is None else self.labels(labels, n)
        return torch.cat(list(self.draw(range(start, start + n), seed, batch_size, chosen)))

    def labels(self, wanted: Labels, n: int) -> Tensor:
        """Classes int64 `[n]` of names or indices. Raises UserError as `sample` does."""
        if self.classes is None:
            raise UserError("a class was asked for, but the network is not class-conditional")
        return self.classes.labels(wanted, n)

    def draw(
        self, indices: Sequence[int], seed: int, batch_size: int | None = None, labels: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Batches of images `[n, C, H, W]` on the image grid in normalised units, float32 on the CPU.

        Args:
            labels: the class of each image, int64, as `labels()` returns them; by default drawn (`sample`).
        """
        batches = generate(
            self.denoiser,
            self.sampler,
            indices,
            self.config.shape,
            seed,
            corruption=self.config.build_corruption(),
            classes=self.classes,
            labels=labels,
            image_shape=self.config.grid,
            batch_size=batch_size or self.batch_size,
        )
        for batch in batches:
            yield self._as_images(batch.float().cpu())

    def _as_images(self, drawn: Tensor) -> Tensor:
        """What a teacher draws lies in the domain of the measurements, what a student draws on the image grid."""
        if self.config.role == "student":
            return drawn
        corruption = self.config.build_corruption()
        operator = corruption.draw(1, self.config.grid, seeded("domain"))  # the same for all samples
        return operator.select(torch.zeros(len(drawn), dtype=torch.int64)).from_domain(drawn)

    def to_physical(self, images: Tensor) -> Tensor:
        """Normalised images in the units of the files that the measurements came from; complex ones stay channels."""
        return images * self.config.scale + self.config.offset


def load_generator(path: str | Path, device: torch.device | str = "cpu") -> Generator:
    """The generator of a run or of a student's folder. Raises UserError, naming the file, if there is none."""
    return Generator(*load_network(_folder(Path(path), "student"), device))


def load_denoiser(path: str | Path, device: torch.device | str = "cpu") -> Denoiser:
    """The teacher of a run, or the network of any network folder, in evaluation mode and without gradients."""
    denoiser, _ = load_network(_folder(Path(path), "teacher"), device)
    return denoiser


def _folder(path: Path, stage: str) -> Path:
    return path / stage if (path / "recipe.yaml").exists() else path
