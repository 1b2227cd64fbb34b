"""Errors of estimators of the noise level of a set, in per cent of the level: restill's, and what it was chosen among.

    python bench/noise_level.py digits path/to/cifar10-test.tar.xz

Two seeds of noise for each level. The wavelet estimator needs scikit-image and PyWavelets; without them it shows nan.
"""

from __future__ import annotations

import argparse
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
from restill.estimation import estimate_sigma
from restill.estimation.coefficients import dct_matrix
from restill.io import digits, open_images

SIGMAS = (0.05, 0.1, 0.2, 0.3, 0.5)


def patches(images: Tensor, side: int, stride: int) -> Tensor:
    """`[patches, C side^2]`."""
    return F.unfold(images, side, stride=stride).transpose(1, 2).flatten(0, 1)


def covariance_of_patches(images: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors for 8x8 patches."""
    return torch.linalg.eigh(torch.cov(patches(images, 8, 3 if images.shape[-1] > 8 else 1).T))


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


ESTIMATORS: dict[str, Callable[[Tensor], float]] = {
    "wavelet MAD, median image": wavelet_mad,
    "patch PCA, median image": chen_image,
    "patch PCA, set": chen_set,
    "whole images, Marchenko-Pastur": marchenko_pastur,
    "finest DCT, quiet images": quiet_images,
    "across channels": across_channels,
    "patch PCA, held out": held_out_pca,
    "restill": lambda images: estimate_sigma(images).sigma,
}


def clean(name: str, count: int) -> Tensor:
    """Clean images in [-1, 1], evenly spread over the source."""
    source = digits() if name == "digits" else open_images(Path(name))
    low, high = source.value_range or (0.0, 255.0)
    keep = set(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int).tolist())
    images = np.stack([x for i, x in enumerate(source) if i in keep])
    return (torch.from_numpy(images).double() - low) / (high - low) * 2 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="`digits`, or a file or folder of clean images")
    parser.add_argument("--count", type=int, default=2_000, help="images of each at most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.data:
        images = clean(name, arguments.count)
        print(
            f"{Path(name).name}: {len(images):,} images of {list(images.shape[1:])}; sigma_n {SIGMAS}, two seeds each"
        )
        for estimator, estimate in ESTIMATORS.items():
            start, errors = time.perf_counter(), []
            for sigma in SIGMAS:
                for seed in (0, 1):
                    noise = torch.randn(images.shape, generator=seeded("bench", seed), dtype=torch.float64)
                    errors.append(100 * (estimate(images + sigma * noise) / sigma - 1))
            seconds = (time.perf_counter() - start) / len(errors)
            print(f"  {estimator:31} " + " ".join(f"{e:+6.1f}" for e in errors) + f"  {seconds:5.1f} s", flush=True)


if __name__ == "__main__":
    main()
