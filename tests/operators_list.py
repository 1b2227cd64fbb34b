"""The list of corruptions that the operator laws run over: a corruption of yours is one line here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import custom_corruptions as custom
from restill.corruption import (
    AdditiveNoise,
    Blur,
    Compose,
    Corruption,
    Downsampling,
    Embedded,
    Function,
    Mask,
    Mri,
    Poisson,
    register_operator,
)


class Instance(NamedTuple):
    """A law, and what is known of it.

    Attributes:
        law: the corruption.
        factor: that the sides of its images must be multiples of.
        channels: numbers of channels that its images may have.
        linear: whether its operators are.
        inverts: whether the image of a measurement, `to_image(y)`, would be measured as `y` again.
        drawn: parameters that differ from sample to sample.
        precision: relative, of `from_domain`, `lift` and `seen` in float64.
        projects: whether `seen` is a projection; `A^H A` of several coils is none.
    """

    law: Corruption
    factor: int = 1
    channels: tuple[int, ...] = (1, 2, 3, 4)
    linear: bool = True
    inverts: bool = True
    drawn: tuple[str, ...] = ()
    precision: float = 1e-10
    projects: bool = True

    def shapes(self) -> list[tuple[int, int, int]]:
        """Shapes of images, not square, and odd where the factor lets them."""
        height, width = {1: (9, 11), 2: (6, 10)}.get(self.factor, (2 * self.factor, 3 * self.factor))
        return [(channels, height, width) for channels in self.channels]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Uniform numbers in [0, 1)."""
    return np.random.default_rng(seed).random(shape)


def reduction(rows: int, columns: int) -> Tensor:
    """A well-conditioned matrix `[rows, columns]`: orthonormal rows or columns, scaled by 0.8 to 1.25."""
    least = min(rows, columns)
    random_ = torch.randn(max(rows, columns), least, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    matrix = torch.linalg.qr(random_)[0] * torch.linspace(0.8, 1.25, least, dtype=torch.float64)
    return matrix if rows >= columns else matrix.T


def fewer(x: Tensor) -> Tensor:
    """Two rows and three columns fewer than the image has."""
    return reduction(x.shape[-2] - 2, x.shape[-2]).to(x) @ x @ reduction(x.shape[-1] - 3, x.shape[-1]).T.to(x)


def more(x: Tensor) -> Tensor:
    """One row fewer, two columns more than the image has: measurements that no image has are among them."""
    return reduction(x.shape[-2] - 1, x.shape[-2]).to(x) @ x @ reduction(x.shape[-1] + 2, x.shape[-1]).T.to(x)


def more_adjoint(y: Tensor) -> Tensor:
    return reduction(y.shape[-2], y.shape[-2] + 1).T.to(y) @ y @ reduction(y.shape[-1], y.shape[-1] - 2).to(y)


register_operator("listed-fewer", fewer)
register_operator("listed-more", more, more_adjoint)

MASKS = Embedded(random(6, 1, 9, 11) < 0.5)
COLOUR_MASKS = Embedded(random(6, 3, 9, 11, seed=1) < 0.5)
LINES = Embedded(np.eye(11, dtype=bool)[:4, None, None] | (np.abs(np.arange(11) - 5) < 2) | (random(4, 1, 1, 11) < 0.4))
POINTS = Embedded(
    (random(5, 1, 9, 11) < 0.4) | (np.abs(np.arange(11) - 5) < 2) & (np.abs(np.arange(9) - 4) < 2)[:, None]
)
COIL_MAPS = Embedded(random(3, 2, 5, 6, 2, seed=4) + 0.2)
KERNEL = Embedded(random(3, 5, seed=2) / 7)
LOPSIDED = Embedded(np.tri(5, 3, dtype=np.float32) / 12)
SMALL = {"kind": "blur", "size": 3, "std": 0.7}

INSTANCES = {
    "noise": Instance(AdditiveNoise(sigma_n=0.2)),
    "noise-none": Instance(AdditiveNoise()),
    "noise-levels": Instance(
        AdditiveNoise(sigma_n=(0.0, 0.1, 0.3), weights=(1, 2, 1), clean_fraction=0.2), drawn=("sigma_n",)
    ),
    "mask": Instance(Mask(), drawn=("mask",)),
    "mask-rates": Instance(Mask(p=(0, 0.3, 0.8), sigma_n=(0.1, 0.3)), drawn=("mask", "sigma_n")),
    "mask-channels": Instance(Mask(p=0.4, per_channel=True, delta=0.3, sigma_n=0.1), drawn=("mask",)),
    "mask-clean": Instance(Mask(p=0.5, sigma_n=0.2, clean_fraction=0.3), drawn=("mask", "sigma_n")),
    "mask-box": Instance(Mask(pattern="box", p=0.3, sigma_n=0.1), drawn=("mask",)),
    "mask-box-channels": Instance(Mask(pattern="box", p=(0.1, 0.5), per_channel=True), drawn=("mask",)),
    "mask-centre-box": Instance(Mask(pattern="centre-box", p=0.4, sigma_n=0.1)),
    "mask-stripes": Instance(Mask(pattern="stripes", p=0.4, size=3), drawn=("mask",)),
    "mask-stripes-channels": Instance(Mask(pattern="stripes", p=0.4, size=1, per_channel=True), drawn=("mask",)),
    "mask-dust": Instance(Mask(pattern="dust", p=0.3, size=3, sigma_n=0.2), drawn=("mask",)),
    "mask-dust-channels": Instance(Mask(pattern="dust", p=0.3, size=2, per_channel=True), drawn=("mask",)),
    "mask-files": Instance(Mask(pattern="files", masks=MASKS, sigma_n=0.1), drawn=("mask",)),
    "mask-files-colour": Instance(Mask(pattern="files", masks=COLOUR_MASKS), channels=(3,), drawn=("mask",)),
    "blur": Instance(Blur(size=5, std=1.0), inverts=False),
    "blur-zero": Instance(Blur(size=9, boundary="zero", sigma_n=0.1), inverts=False),
    "blur-circular": Instance(Blur(size=7, std=1.5, boundary="circular"), inverts=False),
    "blur-none": Instance(Blur(size=1)),
    "blur-motion": Instance(Blur(kernel="motion", size=7, sigma_n=0.1), inverts=False, drawn=("kernel",)),
    "blur-motion-angle": Instance(Blur(kernel="motion", size=5, length=2.5, angle=30), inverts=False),
    "blur-file": Instance(Blur(kernel=KERNEL), inverts=False),
    "blur-file-zero": Instance(Blur(kernel=LOPSIDED, boundary="zero"), inverts=False),
    "blur-file-circular": Instance(Blur(kernel=LOPSIDED, boundary="circular", sigma_n=0.3), inverts=False),
    "blur-clean": Instance(Blur(size=3, clean_fraction=0.4, sigma_n=0.2), inverts=False, drawn=("kernel", "sigma_n")),
    "downsampling": Instance(Downsampling(), factor=2),
    "downsampling-3": Instance(Downsampling(factor=3), factor=3),
    "downsampling-4-noise": Instance(Downsampling(factor=4, sigma_n=0.1), factor=4),
    "downsampling-measurement": Instance(Downsampling(grid="measurement"), factor=2),
    "bicubic": Instance(Downsampling(method="bicubic"), factor=2),
    "bicubic-3-noise": Instance(Downsampling(factor=3, method="bicubic", sigma_n=0.1), factor=3),
    "bicubic-4": Instance(Downsampling(factor=4, method="bicubic", grid="image"), factor=4),
    "poisson": Instance(Poisson(gain=0.02), linear=False),
    "poisson-read-noise": Instance(Poisson(gain=0.05, read_noise=0.1, zero=-1.2), linear=False),
    "function": Instance(Function(name="listed-fewer", sigma_n=0.1), precision=1e-4),
    "function-adjoint": Instance(Function(name="listed-more"), precision=1e-4),
    "mask-mask": Instance(
        Compose(operators=({"kind": "mask", "p": 0.3}, {"kind": "mask", "pattern": "stripes", "p": 0.3}), sigma_n=0.1),
        drawn=("0.mask", "1.mask"),
    ),
    "blur-then-mask": Instance(Compose(operators=(SMALL, "mask"), sigma_n=0.1), inverts=False, drawn=("1.mask",)),
    "blur-then-blur": Instance(
        Compose(operators=(SMALL, {"kind": "blur", "kernel": "motion", "size": 5})), inverts=False, drawn=("1.kernel",)
    ),
    "blur-mask-clean": Instance(
        Compose(operators=(SMALL, {"kind": "mask", "p": 0.2}), sigma_n=(0.1, 0.2), clean_fraction=0.3),
        inverts=False,
        drawn=("0.kernel", "1.mask", "sigma_n"),
    ),
    "blur-downsampling": Instance(Compose(operators=(SMALL, "downsampling")), factor=2, inverts=False),
    "blur-downsampling-noise": Instance(
        Compose(operators=(SMALL, "downsampling"), sigma_n=0.1), factor=2, inverts=False
    ),
    "downsampling-blur": Instance(Compose(operators=("downsampling", SMALL), sigma_n=0.1), factor=2, inverts=False),
    "downsampling-downsampling": Instance(Compose(operators=("downsampling", "downsampling")), factor=4),
    "downsampling-mask": Instance(
        Compose(operators=("downsampling", {"kind": "mask", "p": 0.4})), factor=2, drawn=("1.mask",)
    ),
    "downsampling-alone": Instance(Compose(operators=("downsampling",)), factor=2),
    "downsampling-poisson": Instance(Compose(operators=("downsampling", "poisson")), factor=2, linear=False),
    "blur-poisson": Instance(Compose(operators=(SMALL, "poisson")), linear=False, inverts=False),
    "poisson-mask": Instance(Compose(operators=("poisson", "mask")), linear=False, drawn=("1.mask",)),
    "blur-poisson-mask": Instance(
        Compose(operators=(SMALL, {"kind": "poisson", "gain": 0.05, "read_noise": 0.02}, "mask")),
        linear=False,
        inverts=False,
        drawn=("2.mask",),
    ),
    "function-mask": Instance(
        Compose(operators=({"kind": "function", "name": "listed-fewer"}, "mask"), sigma_n=0.1),
        drawn=("1.mask",),
        precision=1e-4,
    ),
    "mri": Instance(
        Mri(acceleration=2, acs=2), channels=(2,), inverts=False, drawn=("mask", "maps"), precision=1e-6, projects=False
    ),
    "mri-one-coil": Instance(
        Mri(acceleration=3, acs=1, coils=1, sigma_n=0.1), channels=(2,), drawn=("mask", "maps"), precision=1e-6
    ),
    "mri-sixteen-coils": Instance(
        Mri(acceleration=(1.5, 3), acs=2, coils=16, sigma_n=(0.05, 0.1)),
        channels=(2,),
        inverts=False,
        drawn=("mask", "maps", "sigma_n"),
        precision=1e-6,
        projects=False,
    ),
    "mri-equispaced": Instance(
        Mri(acceleration=2.5, acs=3, coils=2, pattern="equispaced"),
        channels=(2,),
        inverts=False,
        drawn=("mask", "maps"),
        precision=1e-6,
        projects=False,
    ),
    "mri-measured": Instance(
        Mri(acs=3, coils=2, pattern="files", masks=LINES, maps=COIL_MAPS, sigma_n=0.1),
        channels=(2,),
        inverts=False,
        drawn=("mask", "maps"),
        precision=1e-6,
        projects=False,
    ),
    "mri-points": Instance(
        Mri(acs=3, coils=1, pattern="files", masks=POINTS), channels=(2,), drawn=("mask", "maps"), precision=1e-6
    ),
    "custom-mask": Instance(custom.RandomMask(sigma_n=0.2), drawn=("mask",)),
    "custom-blur": Instance(custom.Blur(width=0.8), inverts=False),
    "custom-fourier-mask": Instance(custom.RandomLines(sigma_n=0.1), channels=(2, 4), drawn=("mask",)),
}

CASES = [(instance, shape) for instance in INSTANCES.values() for shape in instance.shapes()]
IDS = [f"{name}-{shape[0]}" for name, instance in INSTANCES.items() for shape in instance.shapes()]
