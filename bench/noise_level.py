"""The noise level of a set: how often restill's interval holds it, and errors of the estimators it was chosen among.

    python bench/noise_level.py digits drawings path/to/cifar10-test.tar.xz path/to/brain-mri-128.npz

Every set is 150 images drawn at random, with new noise. Colour images count in colour and grey, as they are and at half
their size; large ones also as crops. The true level is taken to be the noise that was added, although scans and JPEGs
have noise of their own: the interval must hold the smaller of two defensible truths. `--rivals 5` compares other
estimators, which are slow, on five sets a row. The wavelet estimator needs scikit-image and PyWavelets; without them it
shows nan, as do the others where a set is too small for them.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import chi2
from torch import Tensor

from restill.core.tensors import seeded
from restill.estimation.coefficients import dct_matrix
from restill.estimation.white_noise import level_of_images
from restill.io import digits, open_images

SIGMAS = (0.1, 0.2, 0.4)
GREY = (0.299, 0.587, 0.114)


def patches(images: Tensor, side: int, stride: int) -> Tensor:
    """`[patches, C side^2]`."""
    return F.unfold(images, side, stride=stride).transpose(1, 2).flatten(0, 1)


def covariance_of_patches(images: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors for 8x8 patches; NaN where there are too few patches for all of them."""
    found = patches(images, 8, 3 if images.shape[-1] > 8 else 1)
    if len(found) <= found.shape[1]:
        return torch.full((found.shape[1],), torch.nan), torch.full((found.shape[1],) * 2, torch.nan).to(found)
    return torch.linalg.eigh(torch.cov(found.T))


def wavelet_mad(images: Tensor) -> float:
    """Median over images of Donoho and Johnstone's estimate, as in scikit-image."""
    try:
        import pywt  # noqa: F401
        from skimage.restoration import estimate_sigma as of_image
    except ImportError:
        return math.nan
    pictures = images.permute(0, 2, 3, 1).numpy()
    return float(np.median([of_image(picture, channel_axis=-1, average_sigmas=True) for picture in pictures]))


def mean_is_median(values: Tensor) -> float:
    """Chen, Zhu and Heng (ICCV 2015): leave out large eigenvalues until the mean of the others is their median."""
    for m in range(len(values), 0, -1):
        if values[:m].mean() <= values[:m].median():
            return float(values[:m].mean())
    return float(values[0])


def chen_image(images: Tensor) -> float:
    """The median over images of the rule for the patches of one image."""
    side = 3 if images.shape[-1] < 16 else 5
    found = [mean_is_median(torch.linalg.eigvalsh(torch.cov(patches(x[None], side, 1).T))) for x in images[:500]]
    return math.sqrt(max(0.0, float(np.median(found))))


def chen_set(images: Tensor) -> float:
    """The rule for the patches of all images."""
    return math.sqrt(mean_is_median(covariance_of_patches(images)[0]))


def marchenko_pastur(images: Tensor, share: float = 0.1) -> float:
    """Smallest tenth of the eigenvalues of whole images, against what noise alone would have."""
    n, p = len(images), images[0].numel()
    centred = images.flatten(1) - images.flatten(1).mean(0)
    gram = centred @ centred.T if p > n else centred.T @ centred
    values = torch.linalg.eigvalsh(gram / (n - 1))[1 if p > n else 0 :]
    gamma = min(n, p) / max(n, p)
    low, high = (1 - gamma**0.5) ** 2, (1 + gamma**0.5) ** 2
    x = np.linspace(low, high, 200_001)[1:-1]
    density = np.sqrt((high - x) * (x - low)) / x
    inside = np.cumsum(density) <= share * density.sum()
    expected = (x * density)[inside].sum() / density[inside].sum() * max(1.0, p / n)
    return math.sqrt(float(values[: int(share * len(values))].mean()) / expected)


def quiet_images(images: Tensor, share: float = 0.1) -> float:
    """The finest ninth of the DCT, at the images of which a tenth is quieter."""
    waves = torch.einsum("uy,vx->uvyx", *(dct_matrix(8)[5:],) * 2).flatten(0, 1)[:, None]
    found = F.conv2d(images.flatten(0, 1)[:, None], waves, stride=8)
    freedom = found[0].numel() * images.shape[1]
    squares = found.square().reshape(len(images), -1).mean(1)
    return math.sqrt(float(squares.quantile(share)) * freedom / chi2.ppf(share, freedom))


def across_channels(images: Tensor) -> float:
    """A Laplacian of the combination of channels that varies least; colour only."""
    channels = images.shape[1]
    if channels == 1:
        return math.nan
    mix = torch.linalg.eigh(torch.cov(images.movedim(1, 0).flatten(1))).eigenvectors[:, 0]
    filter_ = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)
    found = F.conv2d(torch.einsum("nchw,c->nhw", images, mix)[:, None], torch.outer(filter_, filter_)[None, None] / 6)
    return math.sqrt(float(found.square().flatten(1).mean(1).median()))


def held_out_pca(images: Tensor, share: float = 0.05) -> float:
    """Variance along the last twentieth of the patches' principal components, in images that did not define them."""
    stride, found = 3 if images.shape[-1] > 8 else 1, []
    for first in (0, 1):
        vectors = covariance_of_patches(images[first::2])[1]
        others = patches(images[1 - first :: 2], 8, stride)
        found.append(((others - others.mean(0)) @ vectors[:, : math.ceil(share * len(vectors))]).square().mean())
    return math.sqrt(float(torch.stack(found).mean()))


RIVALS: dict[str, Callable[[Tensor], float]] = {
    "wavelet MAD, median image": wavelet_mad,
    "patch PCA, median image": chen_image,
    "patch PCA, set": chen_set,
    "whole images, Marchenko-Pastur": marchenko_pastur,
    "finest DCT, quiet images": quiet_images,
    "across channels": across_channels,
    "patch PCA, held out": held_out_pca,
}


def drawings(size: int, count: int = 1_000) -> Tensor:
    """Discs and boxes of random grey on random grey, with hard edges, `[count, 1, size, size]`."""
    rng = np.random.default_rng(size)
    y, x = np.mgrid[:size, :size] / size
    images = np.empty((count, 1, size, size))
    for image in images[:, 0]:
        image[:] = rng.uniform(-1, 1)
        for _ in range(rng.integers(1, 7)):
            (across, down), (width, height) = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.3, 2)
            disc = (x - across) ** 2 + (y - down) ** 2 < width**2
            box = (abs(x - across) < width) & (abs(y - down) < height)
            image[disc if rng.random() < 0.5 else box] = rng.uniform(-1, 1)
    return torch.from_numpy(images)


def crops(images: Tensor, size: int) -> Tensor:
    """One of each image, at a random place; empty ones are left out."""
    places = torch.randint(images.shape[-1] - size + 1, (len(images), 2), generator=seeded("bench", "crops", size))
    cut = [image[:, a : a + size, b : b + size] for image, (a, b) in zip(images, places.tolist(), strict=True)]
    found = torch.stack(cut)
    return found[found.flatten(1).std(1) > 0.05]


def clean(name: str) -> dict[str, Tensor]:
    """Clean images in [-1, 1], in several versions."""
    if name == "drawings":
        return {f"drawings {size}": drawings(size) for size in (16, 32, 64)}
    source = digits() if name == "digits" else open_images(Path(name))
    low, high = source.value_range or (0.0, 255.0)
    every = max(1, math.prod(source.shape) * len(source) // 40_000_000)
    images = np.stack(list(itertools.islice(source, 0, None, every))).astype(np.float32)
    whole = (torch.from_numpy(images).double() - low) / (high - low) * 2 - 1
    label = f"{Path(name).name.split('.')[0]} {whole.shape[-1]}"
    found = {label: whole}
    if whole.shape[1] == 3:
        grey = (whole * torch.tensor(GREY, dtype=torch.float64)[:, None, None]).sum(1, keepdim=True)
        found |= {f"{label}, grey": grey, f"{label}, half size": F.avg_pool2d(whole, 2)}
        found |= {f"{label}, grey, half size": F.avg_pool2d(grey, 2)}
    return found | {f"{label}, crops of {size}": crops(whole, size) for size in (64, 32) if 2 * size <= whole.shape[-1]}


def noisy_set(images: Tensor, sigma: float, number: int, count: int) -> Tensor:
    """Some of the images, with new noise."""
    generator = seeded("bench", "noise level", number)
    chosen = images[torch.randperm(len(images), generator=generator)[:count]]
    return chosen + sigma * torch.randn(chosen.shape, generator=generator, dtype=torch.float64)


def coverage(name: str, images: Tensor, sigma: float, sets: int, count: int) -> str:
    """A row: how often the interval holds the level, bias, spread, and how far the interval reaches, in per cent."""
    start = time.perf_counter()
    found = np.array([level_of_images(noisy_set(images, sigma, number, count)) for number in range(sets)]) / sigma
    level, low, high = found.T
    seconds = (time.perf_counter() - start) / sets
    held, above, below = ((low <= 1) & (high >= 1)).sum(), (low > 1).sum(), (high < 1).sum()
    down, up = np.median(level - low), np.median(high - level)
    return (
        f"| {name} | {sigma:g} | {held}/{sets} | {above} / {below} | {100 * (level.mean() - 1):+.1f} | "
        f"{100 * level.std():.1f} | -{100 * down:.1f} / +{100 * up:.1f} | {seconds:.2f} |"
    )


def errors(images: Tensor, sigma: float, sets: int, count: int) -> str:
    """Mean error of every rival, in per cent."""
    noisy = [noisy_set(images, sigma, number, count) for number in range(sets)]
    return " | ".join(f"{100 * (np.mean([rival(y) for y in noisy]) / sigma - 1):+.1f}" for rival in RIVALS.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="`digits`, `drawings`, or a file or folder of clean images")
    parser.add_argument("--sets", type=int, default=200, help="for each row")
    parser.add_argument("--count", type=int, default=150, help="images of each set")
    parser.add_argument("--rivals", type=int, default=0, help="sets for the other estimators, which are slow")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    versions = {name: images for data in arguments.data for name, images in clean(data).items()}
    print("| images | sigma_n | held | too high / too low | bias % | spread % | interval % | s |\n|" + "---|" * 8)
    for (name, images), sigma in itertools.product(versions.items(), SIGMAS):
        print(coverage(name, images, sigma, arguments.sets, arguments.count), flush=True)
    if arguments.rivals:
        print("\n| images | sigma_n | " + " | ".join(RIVALS) + " |\n|" + "---|" * (2 + len(RIVALS)))
        for (name, images), sigma in itertools.product(versions.items(), SIGMAS):
            print(f"| {name} | {sigma:g} | {errors(images, sigma, arguments.rivals, arguments.count)} |", flush=True)


if __name__ == "__main__":
    main()
