"""Metrics of restored images, each against its own reference: PSNR, SSIM, LPIPS.

All are torchmetrics', imported where they are used, for that takes seconds. Each takes images `x` `[n, C, H, W]`, real
and in normalised units ([-1, 1], a range of 2 from lowest to highest), and as `reference` what they should be, of the
same shape and device, and returns the mean over images with its standard error. Each raises UserError for different
shapes, no images, and values that are not finite. Complex images as pairs of channels are taken as they are, real and
imaginary part as two images; the field measures magnitudes, so take these first and give their range.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import wide_dtype
from ..core.views import clipped, displayed
from ..store import Samples
from .estimate import Estimate, check_finite, mean_estimate
from .features import pixels_of
from .results import Result, Subject

WINDOW, SIGMA = 11, 1.5  # as published: Wang et al. 2004
_SMALLEST_LPIPS = 32  # pixels; below, the last layers of the network have nothing left
_CHUNK = 64


def psnr(x: Tensor, reference: Tensor, data_range: float = 2.0) -> Estimate:
    """Peak signal-to-noise ratio in decibel, `10 log10(range^2 / mean squared error)` of each image, mean over images.

    Raises:
        UserError: also an image that equals its reference (its PSNR is infinite).
    """
    _check_pairs(x, reference, "PSNR", data_range)
    from torchmetrics.functional.image import peak_signal_noise_ratio

    scores = [
        peak_signal_noise_ratio(a, b, data_range=data_range, dim=(1, 2, 3), reduction="none")
        for a, b in _pairs(x, reference)
    ]
    values = torch.cat(scores)
    if not bool(values.isfinite().all()):
        raise UserError(f"PSNR: {int((~values.isfinite()).sum())} images equal their reference, where PSNR is infinite")
    return mean_estimate(values)


def ssim_settings(height: int, width: int) -> dict[str, int | float]:
    """Window (in pixels) and sigma of the Gaussian that `ssim` uses for images of this size.

    11 and 1.5 as published; for images with a side under 11 the largest odd window that fits, and a Gaussian narrower
    by as much. Raises UserError for images with a side under 3.
    """
    side = min(height, width, WINDOW)
    if side < 3:
        raise UserError(f"SSIM needs images of at least 3 by 3 pixels, not {height} by {width}")
    window = side - 1 + side % 2
    return {"window": window, "sigma": SIGMA * window / WINDOW}


def ssim(x: Tensor, reference: Tensor, data_range: float = 2.0) -> Estimate:
    """Structural similarity of each image, mean over images; 1 where they are equal (Wang et al. 2004, eq. 13).

    With a Gaussian window (`ssim_settings`), K1 = 0.01, K2 = 0.03, moments with divisor N, the mean over channels and
    over all places where the window lies inside the image. So it is the authors' reference and
    `skimage.metrics.structural_similarity(gaussian_weights=True, use_sample_covariance=False)`.

    Raises:
        UserError: also a side under 3 pixels.
    """
    _check_pairs(x, reference, "SSIM", data_range)
    from torchmetrics.functional.image import structural_similarity_index_measure

    settings = ssim_settings(x.shape[2], x.shape[3])
    border = int(settings["window"]) // 2
    scores = []
    for a, b in _pairs(x, reference):
        _, everywhere = structural_similarity_index_measure(
            a, b, sigma=settings["sigma"], data_range=data_range, reduction="none", return_full_image=True
        )
        scores.append(everywhere[..., border:-border, border:-border].mean(dim=(1, 2, 3)))
    return mean_estimate(torch.cat(scores))


def lpips(x: Tensor, reference: Tensor, network: Literal["alex", "vgg", "squeeze"] = "alex") -> Estimate:
    """Learned perceptual distance of each image, mean over images; 0 where they are equal (Zhang et al. 2018).

    torchvision holds the network (`alex` is the authors' choice for measuring), and downloads its weights when it is
    first used. Values are clipped to [-1, 1], and one channel is repeated to three.

    Raises:
        UserError: also torchvision is not installed, or images are not of 1 or 3 channels, H and W at least 32.
    """
    _check_pairs(x, reference, "LPIPS", 2.0)
    if x.shape[1] not in (1, 3) or min(x.shape[2:]) < _SMALLEST_LPIPS:
        raise UserError(f"LPIPS needs images of 1 or 3 channels and at least 32 by 32 pixels, not {list(x.shape[1:])}")
    try:
        importlib.import_module("torchvision")
    except ImportError:
        raise UserError("LPIPS: torchvision is missing; install the version that matches your torch") from None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    metric = LearnedPerceptualImagePatchSimilarity(net_type=network, reduction="none").to(x.device)
    with torch.no_grad():
        for a, b in _pairs(x.float().clamp(-1, 1), reference.float().clamp(-1, 1)):
            metric.update(a.float().expand(-1, 3, -1, -1), b.float().expand(-1, 3, -1, -1))
    return mean_estimate(metric.compute())


def pair_results(
    subjects: Mapping[Subject, Tensor], clean: Tensor, wanted: Iterable[str], reference: Samples
) -> list[Result]:
    """Rows of `metrics.json`: images `[n, C, H, W]` of each subject against their clean ones, by every wanted metric.

    Images are compared as they are seen: magnitudes of complex ones, others clipped to the range of their files.

    Args:
        clean: images of `reference`.
    """
    results, is_complex = [], reference.is_complex
    pixels, truth = pixels_of(reference.image_shape, is_complex), displayed(clean, is_complex)
    for subject, images in subjects.items():
        stored = subject in ("measurements", "l1-wavelet")
        seen = displayed(clipped(images, reference.bounds), is_complex)
        for name in wanted:
            value, std, uncertainty = _METRICS[name](seen, truth)
            result = Result(
                subject=subject,
                metric=name,
                features="pairs",
                value=value,
                std=std,
                uncertainty=uncertainty,
                n=len(images),
                reference="clean",
                features_fingerprint=pixels.fingerprint,
                reference_fingerprint=reference.fingerprint,
                clipping=reference.clipping,
                sampler=None if stored else "each measurement restored in one evaluation",
            )
            results.append(result)
    return results


_METRICS: dict[str, Callable[[Tensor, Tensor], Estimate]] = {"psnr": psnr, "ssim": ssim, "lpips": lpips}


def _pairs(x: Tensor, reference: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Both in chunks, in float64 where the device has it."""
    wide = wide_dtype(x.device)
    for a, b in zip(x.split(_CHUNK), reference.split(_CHUNK), strict=True):
        yield a.to(wide), b.to(wide)


def _check_pairs(x: Tensor, reference: Tensor, name: str, data_range: float) -> None:
    if x.shape != reference.shape or x.ndim != 4 or not len(x):
        shapes = f"{list(x.shape)} and {list(reference.shape)}"
        raise UserError(f"{name} needs two sets of the same shape [n, C, H, W], n at least 1, not {shapes}")
    if not (x.is_floating_point() and reference.is_floating_point()):
        raise UserError(f"{name} takes real images, not {x.dtype} and {reference.dtype}: take magnitudes first")
    if not data_range > 0:
        raise UserError(f"{name}: data_range must be above 0, not {data_range}")
    for images in (x, reference):
        check_finite(images, f"{name}: images")
