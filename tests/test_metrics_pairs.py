"""PSNR and SSIM against scikit-image in float64, closed forms, small images, and LPIPS without torchvision."""

import importlib
import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import lpips, psnr, ssim, ssim_settings

SHAPES = [(1, 8, 8), (1, 7, 12), (3, 9, 10), (3, 32, 32), (2, 11, 11), (4, 13, 40), (1, 3, 5)]


def pair(shape: tuple[int, ...], n: int = 70, noise: float = 0.2) -> tuple[Tensor, Tensor]:
    """Smooth images and noisy ones (more noise for later images), float64; more of them than one chunk holds."""
    generator = seeded("test-pairs", *shape)
    steps = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    reference = (steps.cumsum(-1).cumsum(-2) / (shape[1] * shape[2]) ** 0.5).tanh()
    level = noise * torch.linspace(0.5, 2, n, dtype=torch.float64)[:, None, None, None]
    return reference + level * torch.randn(n, *shape, generator=generator, dtype=torch.float64), reference


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("data_range", [2.0, 3.5])
def test_psnr_agrees_with_skimage(shape: tuple[int, ...], data_range: float) -> None:
    x, reference = pair(shape)
    expected = [peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=data_range) for a, b in zip(x, reference)]  # noqa: B905
    estimate = psnr(x, reference, data_range)
    assert estimate.value == pytest.approx(np.mean(expected), abs=1e-5)
    assert estimate.std == pytest.approx(np.std(expected, ddof=1) / len(x) ** 0.5, rel=1e-5)
    assert estimate.uncertainty == "jackknife"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("data_range", [2.0, 3.5])
def test_ssim_agrees_with_skimage(shape: tuple[int, ...], data_range: float) -> None:
    x, reference = pair(shape)
    expected = [
        structural_similarity(
            b.numpy(), a.numpy(), channel_axis=0, data_range=data_range, gaussian_weights=True,
            sigma=ssim_settings(*shape[1:])["sigma"], use_sample_covariance=False,
        )
        for a, b in zip(x, reference, strict=True)
    ]  # fmt: skip
    estimate = ssim(x, reference, data_range)
    assert estimate.value == pytest.approx(np.mean(expected), rel=1e-9)
    assert estimate.std == pytest.approx(np.std(expected, ddof=1) / len(x) ** 0.5, rel=1e-7)
    assert 0.01 < estimate.value < 0.99


def test_the_window_shrinks_with_the_image() -> None:
    assert ssim_settings(11, 300) == {"window": 11, "sigma": 1.5}
    assert ssim_settings(320, 320) == {"window": 11, "sigma": 1.5}
    assert ssim_settings(8, 8) == {"window": 7, "sigma": pytest.approx(1.5 * 7 / 11)}
    assert [ssim_settings(side, 20)["window"] for side in range(3, 13)] == [3, 3, 5, 5, 7, 7, 9, 9, 11, 11]
    with pytest.raises(UserError, match="3 by 3"):
        ssim_settings(2, 9)


def test_psnr_of_a_known_error() -> None:
    """An error of 0.02 everywhere is 20 log10(2/0.02) = 40 dB; the mean is over images, not over squared errors."""
    reference = torch.zeros(2, 1, 4, 4)
    error = torch.tensor([0.02, 0.2])[:, None, None, None]
    assert psnr(reference[:1] + 0.02, reference[:1]).value == pytest.approx(40, abs=1e-4)
    assert psnr(reference[:1] + 0.02, reference[:1]).std is None
    estimate = psnr(reference + error, reference)
    assert estimate.value == pytest.approx(30, abs=1e-4)
    assert estimate.std == pytest.approx(10, abs=1e-4)  # of 40 and 20 dB: sd 14.1, over sqrt(2)


def test_more_noise_is_worse_and_equal_is_best() -> None:
    quality = [(psnr(*pair((1, 16, 16), noise=s)).value, ssim(*pair((1, 16, 16), noise=s)).value) for s in (0.1, 0.4)]
    assert quality[0][0] > quality[1][0] + 10 and quality[0][1] > quality[1][1] + 0.1
    _, reference = pair((1, 16, 16))
    assert ssim(reference, reference).value == pytest.approx(1, abs=1e-12)
    with pytest.raises(UserError, match="70 images equal"):
        psnr(reference, reference)


def test_mistakes_are_named() -> None:
    x, reference = pair((1, 8, 8), n=4)
    for metric in (psnr, ssim):
        for a, b, words in (
            (x, reference[:3], "the same shape"),
            (x[0], reference[0], "the same shape"),
            (x[:0], reference[:0], "at least 1"),
            (x / 0, reference, "NaN"),
            (x.to(torch.complex64), reference, "real"),
        ):
            with pytest.raises(UserError, match=words):
                metric(a, b)
        with pytest.raises(UserError, match="data_range"):
            metric(x, reference, 0.0)


def test_lpips_without_torchvision_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> object:
        if name == "torchvision":
            raise ModuleNotFoundError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    x = torch.zeros(2, 1, 32, 32)
    with pytest.raises(UserError, match="torchvision is missing"):
        lpips(x, x)
    with pytest.raises(UserError, match="32 by 32"):
        lpips(x[..., :8], x[..., :8])
    with pytest.raises(UserError, match="1 or 3 channels"):
        lpips(x.expand(2, 2, 32, 32), x.expand(2, 2, 32, 32))
    with pytest.raises(UserError, match="NaN"):
        lpips(x * math.nan, x)


def test_importing_metrics_does_not_import_torchmetrics() -> None:
    """It takes seconds. Seen in the source, for other tests have imported it by now."""
    import ast
    from pathlib import Path

    import restill.metrics

    for file in Path(restill.metrics.__file__).parent.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                assert not any(name.startswith(("torchmetrics", "torchvision")) for name in names), file.name
