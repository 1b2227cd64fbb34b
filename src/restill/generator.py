"""A trained generator, for people who only draw images: no training stack, no data."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import NetworkConfig, load_network
from .core.errors import UserError
from .diffusion import Denoiser
from .sampling import OneStep, generate


class Generator:
    """A one-step generator with what is needed to use its images.

    Attributes:
        denoiser: the network.
        config: shapes, units, and the law that it was trained under.
    """

    def __init__(self, denoiser: Denoiser, config: NetworkConfig) -> None:
        if config.init_sigma is None:
            raise UserError("a teacher is no one-step generator: give the student's folder, or use load_denoiser")
        self.denoiser, self.config = denoiser, config
        self.sampler = OneStep(config.init_sigma)

    def sample(self, n: int, seed: int = 0, *, start: int = 0, batch_size: int = 256) -> Tensor:
        """Images `start` to `start + n - 1` of a seed, `[n, C, H, W]`, float32 on the CPU, normalised to [-1, 1].

        Image `k` of a seed is the same in every call (up to rounding between batch sizes). The channels of complex
        images (`config.complex_values`) are real and imaginary parts in turn, with magnitudes up to about 1:
        `restill.tensors.channels_to_complex` makes complex numbers `[n, 1, H, W]` of them, and `restill.views` what is
        looked at.
        """
        if n < 1:
            raise UserError(f"n must be at least 1, not {n}")
        batches = generate(
            self.denoiser,
            self.sampler,
            range(start, start + n),
            self.config.shape,
            seed,
            corruption=self.config.law(),
            num_classes=self.config.num_classes,
            image_shape=self.config.grid,
            batch_size=batch_size,
        )
        return torch.cat([batch.float().cpu() for batch in batches])

    def to_physical(self, images: Tensor) -> Tensor:
        """Normalised images in the units of the files that the measurements came from; complex ones as channels."""
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
