"""The Fréchet distance: oracle, closed forms, laws, and that it rises when images are made worse."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import MomentAccumulator, Moments, PixelFeatures, feature_moments, frechet_distance


def moments(features: Tensor) -> Moments:
    return MomentAccumulator(features.shape[1]).update(features).moments()


def gaussian(mean: Tensor, cov: Tensor) -> Moments:
    return Moments(100, mean.double(), cov.double())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded("test-frechet", seed), dtype=torch.float64)


def by_sqrtm(a: Moments, b: Moments) -> float:
    root = scipy.linalg.sqrtm(a.cov.numpy() @ b.cov.numpy()).real
    difference = (a.mean - b.mean).numpy()
    return float(difference @ difference + np.trace(a.cov.numpy() + b.cov.numpy() - 2 * root))


@pytest.mark.parametrize("dim", [1, 2, 17, 64])
def test_agrees_with_scipy_sqrtm(dim: int) -> None:
    mixing = normal(dim, dim, seed=1)
    a, b = moments(normal(500, dim, seed=2) @ mixing), moments(normal(400, dim, seed=3) * 1.7 + 0.3)
    assert frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-6)


def test_closed_form_for_diagonal_covariances() -> None:
    mean_a, mean_b = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, -1.0])
    sd_a, sd_b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 0.5])
    expected = float((mean_a - mean_b).square().sum() + (sd_a - sd_b).square().sum())
    a, b = gaussian(mean_a, sd_a.square().diag()), gaussian(mean_b, sd_b.square().diag())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_laws_zero_symmetry_translation_rotation_scale() -> None:
    x, y = normal(200, 12, seed=4), normal(150, 12, seed=5) @ normal(12, 12, seed=6)
    a, b = moments(x), moments(y)
    distance = frechet_distance(a, b)
    rotation = torch.linalg.qr(normal(12, 12, seed=7)).Q
    assert distance > 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(moments(x @ rotation), moments(y @ rotation)) == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(moments(3 * x + 5), moments(3 * y + 5)) == pytest.approx(9 * distance, rel=1e-10)


def test_singular_covariances_lose_no_digits() -> None:
    """20 images of 300 features; constant features; no variance at all: each has a known distance."""
    x = normal(20, 300, seed=8)
    a = moments(x)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-11)
    # scaling by 2 gives tr C (2 - 1)^2 + |mean|^2
    expected = float(a.cov.trace() + a.mean.square().sum())
    assert frechet_distance(a, moments(2 * x)) == pytest.approx(expected, rel=1e-12)
    point, other = gaussian(torch.zeros(3), torch.zeros(3, 3)), gaussian(torch.ones(3), torch.zeros(3, 3))
    assert frechet_distance(point, other) == pytest.approx(3)
    assert frechet_distance(
        point, gaussian(torch.zeros(3), torch.diag(torch.tensor([4.0, 1.0, 0.0])))
    ) == pytest.approx(5)


def test_disjoint_supports_add_their_variances() -> None:
    a, b = torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([0.0, 2.0]))
    assert frechet_distance(gaussian(torch.zeros(2), a), gaussian(torch.zeros(2), b)) == pytest.approx(3, rel=1e-12)


def test_streaming_merging_and_batch_agree_under_a_large_offset() -> None:
    x = normal(1000, 7, seed=9) + 1e6
    batch = moments(x)
    streamed, first, second = (MomentAccumulator(7) for _ in range(3))
    for chunk in x.split(13):
        streamed.update(chunk)
    first.update(x[:1]).update(x[1:300])
    second.update(x[300:]).update(x[:0])
    for other in (streamed.moments(), first.merge(second).merge(MomentAccumulator(7)).moments()):
        assert other.n == 1000
        torch.testing.assert_close(other.mean, batch.mean, rtol=1e-14, atol=0)
        torch.testing.assert_close(other.cov, batch.cov, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(batch.cov, torch.from_numpy(np.cov(x.numpy().T)), rtol=1e-8, atol=1e-10)


def test_what_is_handed_out_does_not_change_later() -> None:
    accumulator = MomentAccumulator(3).update(normal(10, 3))
    early = accumulator.moments()
    mean, cov = early.mean.clone(), early.cov.clone()
    accumulator.update(normal(10, 3, seed=1))
    assert torch.equal(early.mean, mean)
    assert torch.equal(early.cov, cov)


def test_mistakes_are_named() -> None:
    a = moments(normal(10, 3))
    with pytest.raises(UserError, match="3 and 4 features"):
        frechet_distance(a, moments(normal(10, 4)))
    with pytest.raises(UserError, match="at least 2"):
        MomentAccumulator(3).update(normal(1, 3)).moments()
    with pytest.raises(UserError, match="NaN"):
        MomentAccumulator(3).update(torch.full((2, 3), math.nan))
    with pytest.raises(UserError, match=r"\[n, 3\]"):
        MomentAccumulator(3).update(normal(2, 4))
    with pytest.raises(UserError, match="NaN"):
        frechet_distance(a, gaussian(torch.tensor([0.0, math.inf, 0.0]), torch.eye(3)))
    with pytest.raises(UserError, match="negative eigenvalue"):
        frechet_distance(a, gaussian(torch.zeros(3), torch.diag(torch.tensor([1.0, 1.0, -1.0]))))
    with pytest.raises(UserError, match="at least 2"):
        frechet_distance(a, Moments(1, torch.zeros(3).double(), torch.eye(3).double()))
    with pytest.raises(UserError, match="merged"):
        MomentAccumulator(3).merge(MomentAccumulator(4))


def test_finite_sample_bias_has_the_expected_size() -> None:
    """Two samples of n from N(0, I_d): E |mean difference|^2 = 2 d/n, and the covariances add a term of order d^2/n."""
    n, d = 4000, 8
    distance = frechet_distance(moments(normal(n, d, seed=10)), moments(normal(n, d, seed=11)))
    assert 0 < distance < 3 * (2 * d / n + d * (d + 1) / (2 * n))


class TestDigits:
    """Halves of real images against each other, and against what goes wrong with generators."""

    @pytest.fixture
    def halves(self) -> tuple[Tensor, Tensor, Tensor]:
        digits = pytest.importorskip("sklearn.datasets").load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
        order = torch.randperm(len(images), generator=seeded("test-halves"))
        labels = torch.tensor(digits.target)[order[1::2]]
        return images[order[::2]], images[order[1::2]], labels

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> float:
        features = PixelFeatures((1, 8, 8))
        return frechet_distance(feature_moments(a.split(100), features), feature_moments(b.split(100), features))

    def test_every_injected_failure_raises_it(self, halves: tuple[Tensor, Tensor, Tensor]) -> None:
        real, other, labels = halves
        split = self.distance(real, other)
        noise = torch.randn(other.shape, generator=seeded("test-noise"))
        blurred = torch.nn.functional.avg_pool2d(other, 3, stride=1, padding=1, count_include_pad=False)
        failures = {
            "noise": [self.distance(real, other + sigma * noise) for sigma in (0.1, 0.2, 0.4)],
            "blur": [self.distance(real, blurred)],
            "dropped modes": [self.distance(real, other[labels < classes]) for classes in (8, 5, 2)],
            "shrunken contrast": [self.distance(real, other * factor) for factor in (0.9, 0.7)],
        }
        assert 0 < split < 0.5
        for values in failures.values():
            assert split < values[0]
            assert values == sorted(values)
        assert failures["noise"][-1] == pytest.approx(4.0, rel=0.15)
        assert self.distance(real, real.flip(0)) == pytest.approx(0, abs=1e-10)


def test_agrees_with_torchmetrics() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")

    class Flat(torch.nn.Module):
        num_features = 12

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)

    generator = torch.Generator().manual_seed(3)
    a = torch.randn(400, 3, 2, 2, generator=generator, dtype=torch.float64)
    b = a[:300] * 1.3 + 0.2 * torch.randn(300, 3, 2, 2, generator=generator, dtype=torch.float64)
    metric = fid.FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 2, 2)).set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    features = PixelFeatures((3, 2, 2))
    ours = frechet_distance(feature_moments([a], features), feature_moments([b], features))
    assert ours > 0.1
    assert ours == pytest.approx(float(metric.compute()), rel=1e-6)
