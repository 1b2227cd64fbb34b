"""KID, Inception score, precision, recall, density, coverage: float64 oracles, closed forms, laws, mistakes."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import (
    density_coverage,
    inception_score,
    inception_settings,
    kernel_distance,
    kid_settings,
    precision_recall,
    sets,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded("test-sets", seed), dtype=torch.float64)


def mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD with the cubic kernel, pair by pair."""
    kernel = lambda u, v: (u @ v / len(u) + 1) ** 3  # noqa: E731
    within = [np.mean([kernel(u, v) for i, u in enumerate(z) for j, v in enumerate(z) if i != j]) for z in (x, y)]
    return float(sum(within) - 2 * np.mean([kernel(u, v) for u in x for v in y]))


class TestKernelDistance:
    def test_whole_sets_agree_with_loops(self) -> None:
        a, b = normal(30, 5, seed=1), 1.3 * normal(30, 5, seed=2) + 0.4
        estimate = kernel_distance(a, b)  # every subset is the whole set
        assert kid_settings(30, 30) == {"subsets": 100, "subset_size": 30}
        assert estimate.value == pytest.approx(mmd(a.numpy(), b.numpy()), rel=1e-10)
        assert estimate.std is None and estimate.uncertainty is None

    def test_closed_form_for_gaussians(self) -> None:
        """1-D: k(x, y) = sum_j binom(3, j) (xy)^j, so MMD^2 = 3 (m1-n1)^2 + 3 (m2-n2)^2 + (m3-n3)^2 of raw moments."""
        a, b = normal(20_000, 1, seed=3), 1.2 * normal(20_000, 1, seed=4) + 0.3
        m, n = (0.0, 1.0, 0.0), (0.3, 0.3**2 + 1.44, 0.3**3 + 3 * 0.3 * 1.44)
        expected = sum(c * (p - q) ** 2 for c, p, q in zip((3, 3, 1), m, n, strict=True))
        estimate = kernel_distance(a, b, subsets=200, subset_size=400)
        assert estimate.std is not None and estimate.uncertainty == "subsets"
        # 200 subsets of 400 from 20,000: the images of 50 disjoint subsets
        assert abs(estimate.value - expected) < 5 * estimate.std / 50**0.5 < 0.5 * expected

    def test_equal_laws_give_zero_without_bias(self) -> None:
        values = [
            kernel_distance(normal(60, 4, seed=s), normal(60, 4, seed=1000 + s), subsets=1).value for s in range(200)
        ]
        error = np.std(values) / len(values) ** 0.5
        assert abs(np.mean(values)) < 4 * error
        assert min(values) < 0

    def test_seeds_and_global_state(self) -> None:
        a, b = normal(200, 4, seed=5), normal(90, 4, seed=6)
        state = torch.get_rng_state()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            first, again, other = (kernel_distance(a, b, subset_size=20, seed=s) for s in (1, 1, 2))
        assert torch.equal(torch.get_rng_state(), state)
        assert first == again != other
        assert kid_settings(200, 90, subset_size=20) == {"subsets": 100, "subset_size": 20}
        assert kid_settings(200, 90) == {"subsets": 100, "subset_size": 90}

    def test_mistakes_are_named(self) -> None:
        a = normal(10, 3)
        for x, y, words in (
            (a, normal(10, 4), "features"),
            (a[:1], a, "at least 2"),
            (a, a / 0, "NaN"),
            (a, a.long(), "real"),
            (a[0], a, "features"),
        ):
            with pytest.raises(UserError, match=words):
                kernel_distance(x, y)
        with pytest.raises(UserError, match="at least 1 subset"):
            kernel_distance(a, a, subset_size=1)


class TestInceptionScore:
    def test_agrees_with_numpy(self) -> None:
        logits = 3 * normal(40, 6, seed=7)
        p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
        expected = math.exp(np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1)))
        estimate = inception_score(logits, splits=1)
        assert estimate.value == pytest.approx(expected, rel=1e-10) and 1.5 < expected < 6
        assert estimate.std is None

    def test_extremes(self) -> None:
        """As many as the classes where each image is certain and all are equally many; 1 where nothing differs."""
        certain = 200 * torch.eye(5).repeat(40, 1)
        assert inception_score(certain, splits=1).value == pytest.approx(5, rel=1e-9)
        assert inception_score(certain[:1].repeat(200, 1)).value == pytest.approx(1, abs=1e-9)
        assert inception_score(torch.zeros(200, 5)).value == pytest.approx(1, abs=1e-9)

    def test_splits_seeds_and_global_state(self) -> None:
        logits, state = 2 * normal(400, 4, seed=8), torch.get_rng_state()
        first, again, other = (inception_score(logits, seed=s) for s in (1, 1, 2))
        assert torch.equal(torch.get_rng_state(), state)
        assert first == again != other
        assert first.uncertainty == "splits" and first.std is not None and first.std > 0
        assert [inception_settings(n)["splits"] for n in (2, 4, 99, 100, 50_000)] == [1, 2, 9, 10, 10]

    @pytest.mark.parametrize("n", [5, 17, 95, 101, 137])
    def test_there_are_as_many_splits_as_recorded(self, n: int) -> None:
        assert len(torch.zeros(n).chunk(inception_settings(n)["splits"])) == inception_settings(n)["splits"]

    def test_mistakes_are_named(self) -> None:
        for logits, words in (
            (torch.zeros(1, 3), "n and k at least 2"),
            (torch.zeros(5, 1), "n and k at least 2"),
            (torch.full((5, 3), math.nan), "NaN"),
            (torch.tensor([[0.0, 1e4]] * 9), "probability is 0"),
        ):
            with pytest.raises(UserError, match=words):
                inception_score(logits)


def by_scipy(real: Tensor, fake: Tensor, k: int) -> tuple[np.ndarray, ...]:
    """Per-sample scores of precision, recall, density, coverage from matrices of all distances in float64."""
    x, y = real.double().numpy(), fake.double().numpy()
    radius_x, radius_y = (np.sort(cdist(z, z), axis=1)[:, k] * (1 + 1e-12) for z in (x, y))  # column 0 is z itself
    between = cdist(x, y)
    in_x, in_y = between <= radius_x[:, None], between <= radius_y
    return in_x.any(axis=0), in_y.any(axis=1), in_x.sum(axis=0) / k, in_x.any(axis=1)


def agrees(real: Tensor, fake: Tensor, k: int) -> None:
    estimates = (*precision_recall(real, fake, k), *density_coverage(real, fake, k))
    for estimate, scores in zip(estimates, by_scipy(real, fake, k), strict=True):
        assert estimate.value == pytest.approx(scores.mean(), rel=1e-12)
        assert estimate.std == pytest.approx(scores.std(ddof=1) / len(scores) ** 0.5, rel=1e-9)
        assert estimate.uncertainty == "jackknife"


class TestNeighbours:
    @pytest.mark.parametrize(("n", "m", "dim", "k"), [(300, 250, 2, 3), (250, 300, 64, 5), (60, 50, 500, 1)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_agree_with_scipy(self, n: int, m: int, dim: int, k: int, dtype: torch.dtype) -> None:
        real, fake = normal(n, dim, seed=9).to(dtype), (0.95 * normal(m, dim, seed=10) + 0.3 / dim).to(dtype)
        agrees(real, fake, k)
        values = [e.value for e in (*precision_recall(real, fake, k), *density_coverage(real, fake, k))]
        assert all(value > 0 for value in values) and min(values) < 0.98

    def test_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sets, "_BLOCK", 1000)
        agrees(normal(300, 3, seed=11), normal(237, 3, seed=12), 3)

    def test_far_from_the_origin_and_near_each_other(self) -> None:
        """Distances of 1e-4 among vectors of length 1e3, in two clusters 10 apart: float32 products alone see noise."""
        cluster = torch.arange(200) % 2 * 10.0
        real, fake = (1e3 + 1e-3 * normal(200, 8, seed=s) + cluster[:, None] for s in (13, 14))
        agrees(real, fake, 3)
        agrees(real, fake + 1e-3, 3)
        a, b = (z.float() - z.float().mean(dim=0) for z in (real, fake))
        product = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0).sqrt().numpy()
        exact = cdist(real.numpy(), fake.numpy())
        assert np.abs(product - exact).max() > 0.3 * exact.min()  # so the check above was one

    def test_duplicates_are_inside(self) -> None:
        """Copies of the reference, and sets in which every vector occurs so often that all radii are 0."""
        real = normal(100, 20, seed=15).float()
        assert precision_recall(real, real.clone())[0].value == 1
        result = density_coverage(real, real.clone(), k=5)
        assert (result.density.value, result.coverage.value) == (pytest.approx(6 / 5), 1)
        agrees(real, real.clone(), 5)
        often = normal(10, 700, seed=16).float().repeat(6, 1)  # 5 duplicates each
        assert [e.value for e in precision_recall(often, often[:30].repeat(2, 1), k=3)] == [1, 1]
        assert [e.value for e in precision_recall(often, often + 1e-3, k=3)] == [0, 0]
        constant = torch.ones(50, 4)
        assert [e.value for e in precision_recall(constant, constant)] == [1, 1]

    def test_equal_laws(self) -> None:
        """Closed form of coverage for equal laws and numbers: 1 - prod_i (n - i)/(2n - i), i = 1..k (Naeem, eq. 9)."""
        n, k = 2000, 5
        expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
        result = density_coverage(normal(n, 3, seed=17), normal(n, 3, seed=18), k)
        assert result.coverage.value == pytest.approx(expected, abs=6 * (expected * (1 - expected) / n) ** 0.5)
        assert result.density.value == pytest.approx(1, abs=0.1)

    def test_disjoint_sets_and_lost_modes(self) -> None:
        real = normal(200, 2, seed=19) + torch.tensor([[0.0, 0.0], [100.0, 0.0]]).repeat(100, 1)
        one_mode = normal(200, 2, seed=20)
        precision, recall = precision_recall(real, one_mode)
        assert precision.value > 0.9 and 0.4 < recall.value <= 0.5
        assert [e.value for e in precision_recall(real, one_mode + 1000)] == [0, 0]
        assert [e.value for e in density_coverage(real, one_mode + 1000)] == [0, 0]
        assert 0.4 < density_coverage(real, one_mode).coverage.value <= 0.5

    def test_standard_errors_have_the_right_size(self) -> None:
        """Spread of precision over 150 draws of the judged images, the reference fixed; the sd of a spread is 6%."""
        real = normal(400, 2, seed=21)
        results = [precision_recall(real, 1.5 * normal(300, 2, seed=1000 + s)).precision for s in range(150)]
        spread, stated = np.std([r.value for r in results], ddof=1), np.mean([r.std for r in results])
        assert stated == pytest.approx(spread, rel=4 * 0.06)

    def test_mistakes_are_named(self) -> None:
        a = normal(10, 3)
        for function in (precision_recall, density_coverage):
            with pytest.raises(UserError, match="at least 5"):
                function(a[:4], a, k=4)
            with pytest.raises(UserError, match="NaN"):
                function(a, a * math.inf)
            with pytest.raises(UserError, match="features"):
                function(a, normal(10, 4))
            with pytest.raises(UserError):
                function(a, a, k=0)
        assert density_coverage(a, a[:1]).density.std is None
