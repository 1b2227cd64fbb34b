"""Blur, downsampling and chains in closed form: what the teacher learns in the domain, and where the generator rests.

Gaussian data and exact moments throughout, so that there is no statistical error. With `T` the matrix of
`to_domain(A x)`, the law of the domain is N(0, T C T^T), and `E[T x | T x + s n]` is the denoiser of that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from closed_form import covariance, gaussian_denoiser, gradient, quadratic_minimiser
from closed_form_operators import (
    ExactSample,
    Part,
    PhaseTwo,
    Unscaled,
    all_masks,
    bernoulli_pairs,
    index_of,
    matrix_of,
    posterior_mean,
    table,
)
from restill.corruption import (
    AdditiveNoise,
    Blur,
    BlurOperator,
    Chain,
    Compose,
    Corruption,
    Downsampling,
    Embedded,
    MaskOperator,
    Operator,
)
from restill.corruption.traits import untouched
from restill.objectives import DMD, AmbientTweedie, DistillationLoss, SiD, Standard

F64 = torch.float64
KERNEL = Embedded(np.array([[0.25, 0.6, 0.15]]))
ROW = (1, 1, 4)
WIDE = (1, 2, 4)


def drawn(law: Corruption, shape: tuple[int, ...], n: int, sigma_n: float = 0.0) -> Operator:
    """`n` operators of a law whose operators are all alike, with the given level of noise."""
    operator = law.draw(n, shape, torch.Generator().manual_seed(0))
    return operator.with_parameters(operator.parameters() | {"sigma_n": torch.full((n,), sigma_n, dtype=F64)})


def to_domain(law: Corruption, shape: tuple[int, ...]) -> Tensor:
    """The matrix `T` from images to the domain."""
    operator = drawn(law, shape, torch.Size(shape).numel())
    return matrix_of(lambda x: operator.to_domain(operator.apply(x)), shape)


def sample(law: Corruption, shape: tuple[int, ...], sigma_n: Sequence[float], sigma: float) -> ExactSample:
    dim = torch.Size(shape).numel()
    operators = [drawn(law, shape, 6 * dim + 10, level) for level in sigma_n]
    parts = [Part(operator, operator, 1 / len(sigma_n)) for operator in operators]
    return ExactSample(covariance(dim), shape, parts, sigma)


MODELLED: dict[str, tuple[Corruption, tuple[int, ...], tuple[float, ...]]] = {
    "blur": (Blur(kernel=KERNEL), ROW, (0.0,)),
    "blur-noise": (Blur(kernel=KERNEL, boundary="circular", sigma_n=0.3), ROW, (0.3,)),
    "blur-levels": (Blur(kernel=KERNEL, sigma_n=(0.0, 0.2, 0.4)), ROW, (0.0, 0.2, 0.4)),
    "downsampling": (Downsampling(), WIDE, (0.0,)),
    "bicubic": (Downsampling(method="bicubic"), WIDE, (0.0,)),
    "downsampling-noise": (Downsampling(sigma_n=0.3), WIDE, (0.3,)),
    "downsampling-levels": (Downsampling(sigma_n=(0.0, 0.2, 0.4)), WIDE, (0.0, 0.2, 0.4)),
    "blur-downsampling": (Compose(operators=(Blur(kernel=KERNEL), "downsampling")), WIDE, (0.0,)),
    "blur-downsampling-noise": (Compose(operators=(Blur(kernel=KERNEL), "downsampling"), sigma_n=0.3), WIDE, (0.3,)),
    "downsampling-blur": (Compose(operators=("downsampling", Blur(kernel=KERNEL)), sigma_n=0.3), (1, 2, 6), (0.3,)),
}


@pytest.mark.parametrize("name", MODELLED)
@pytest.mark.parametrize("sigma", [0.41, 2.0])
def test_teacher_learns_the_law_of_the_domain(name: str, sigma: float) -> None:
    """The minimiser is `E[T x | T x + s n]`: on the image grid, of the measurements' rank, or on a smaller grid."""
    law, shape, levels = MODELLED[name]
    t = to_domain(law, shape)
    known = sample(law, shape, levels, sigma)
    assert t.shape[0] == torch.Size(law.shapes(shape).domain).numel()
    expected = gaussian_denoiser(t @ covariance(t.shape[1]) @ t.T, sigma)[None]

    def loss(weight: Tensor) -> Tensor:
        return known.loss(AmbientTweedie(), weight)

    torch.testing.assert_close(quadratic_minimiser(loss, expected), expected, rtol=0, atol=1e-8)
    assert gradient(loss, expected).abs().max() < 1e-10 and gradient(loss, 0.9 * expected).abs().max() > 1e-3
    if levels != (0.0,):
        assert gradient(lambda weight: known.loss(Standard(), weight), expected).abs().max() > 1e-3


def test_domains_are_where_they_should_be() -> None:
    """Without noise downsampling is learned on the image grid, of the measurements' rank; with noise on theirs."""
    free, noisy = (to_domain(MODELLED[name][0], WIDE) for name in ("downsampling", "downsampling-noise"))
    assert free.shape == (8, 8) and int(torch.linalg.matrix_rank(free)) == 2 and noisy.shape == (2, 8)
    blocks = torch.tensor([[1.0, 1, 0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 1, 1]], dtype=F64) / 4
    torch.testing.assert_close(noisy, blocks)
    torch.testing.assert_close(blocks @ free, blocks)  # enlarged images are measured as what they are of


@pytest.mark.parametrize("sigma_n", [(0.0,), (0.3,), (0.0, 0.2, 0.4)], ids=str)
@pytest.mark.parametrize(
    ("first", "shape", "domain"),
    [(Blur(kernel=KERNEL), (1, 1, 3), (1, 1, 3)), (Downsampling(grid="measurement"), (1, 2, 6), (1, 1, 3))],
    ids=["blur", "downsampling"],
)
def test_chains_that_end_in_masks_learn_the_posterior_mean_before_them(
    first: Corruption, shape: tuple[int, ...], domain: tuple[int, int, int], sigma_n: tuple[float, ...]
) -> None:
    """`E[B x | M~ (B x + s n)]` for every further mask, with all masks in their proportions."""
    dim, sigma = torch.Size(shape).numel(), 0.7
    n, cov, b = 6 * dim + 10, covariance(dim), to_domain(first, shape)
    parts = []
    for mask, further, probability in bernoulli_pairs(domain, p=0.6, delta=0.1):
        for level in sigma_n:
            before = drawn(first, shape, n, level)
            chains = [
                Chain(before.sigma_n, (before, MaskOperator(before.sigma_n, m.expand(n, *domain))), masks=1)
                for m in (mask, further)
            ]
            parts.append(Part(chains[0], chains[1], probability / len(sigma_n)))
    known = ExactSample(cov, shape, parts, sigma)
    best = table(lambda mask: posterior_mean(b @ cov @ b.T, mask, sigma), all_masks(domain))

    def loss(weight: Tensor) -> Tensor:
        return known.loss(AmbientTweedie(), weight)

    assert gradient(loss, best).abs().max() < 1e-10
    elsewhere = gradient(loss, 0.9 * best)
    for mask in all_masks(domain)[1:]:
        assert elsewhere[index_of(mask[None])].abs().max() > 1e-6
    assert loss(0.9 * best) > loss(best) + 1e-4


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_clean_samples_among_noisy_ones_change_nothing(share: float) -> None:
    """Noise alone: every sample, clean or not, has the same `E[x | x_t]` at a level s above its own noise."""
    law, sigma, n = AdditiveNoise(sigma_n=0.4, clean_fraction=share), 0.6, 34
    operator = drawn(law, ROW, n, 0.4)
    none = untouched(operator)
    known = ExactSample(covariance(4), ROW, [Part(operator, operator, 1 - share), Part(none, none, share)], sigma)
    expected = gaussian_denoiser(covariance(4), sigma)[None]
    got = quadratic_minimiser(lambda weight: known.loss(AmbientTweedie(), weight), expected)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("sigma_n", [0.0, 0.4])
def test_clean_samples_among_blurred_ones_are_learned_as_a_mixture(sigma_n: float) -> None:
    r"""Here the minimiser is not that of blurred images, nor of clean ones: the network is not told which it sees.

    The loss of part j has the weight f_j w_j c_j^2 in the normal equations, so that D is of the mixture in which part
    j has the share f_j w_j c_j^2 = f_j lambda(s) c_j (where c > c_min): at low levels, where noisy measurements say
    little, that of the clean samples grows. Noise-free parts keep their shares at all levels.
    """
    share, sigma, n = 0.3, 0.6, 34
    blurred = drawn(Blur(kernel=KERNEL), ROW, n, sigma_n)
    sharp = untouched(blurred)
    assert isinstance(sharp, BlurOperator) and (sharp.sigma_n == 0).all()
    cov, b = covariance(4), to_domain(Blur(kernel=KERNEL), ROW)
    known = ExactSample(cov, ROW, [Part(blurred, blurred, 1 - share), Part(sharp, sharp, share)], sigma)
    c = 1 - sigma_n**2 / sigma**2
    clean = share / (share + (1 - share) * c)
    mixture = clean * cov + (1 - clean) * b @ cov @ b.T
    got = quadratic_minimiser(lambda weight: known.loss(AmbientTweedie(), weight), cov[None])[0]
    torch.testing.assert_close(got, gaussian_denoiser(mixture, sigma), rtol=0, atol=1e-8)
    for other in (cov, b @ cov @ b.T):
        assert (got - gaussian_denoiser(other, sigma)).abs().max() > 1e-2


RESTS = ["blur", "blur-noise", "downsampling", "bicubic", "downsampling-noise", "blur-downsampling-noise"]
LOSSES: list[DistillationLoss] = [SiD(alpha=1.0), SiD(alpha=1.2), DMD()]


class Student:
    """A linear generator `x_g = W z` behind a law, with the teacher of `x ~ N(0, C)`."""

    def __init__(self, name: str, level: float = 0.7) -> None:
        self.law, self.shape, levels = MODELLED[name]
        dim = torch.Size(self.shape).numel()
        self.level, self.t, self.cov = level, to_domain(self.law, self.shape), covariance(dim)
        rows = 6 * dim + 10
        operator = drawn(self.law, self.shape, rows, levels[0])
        self.two = PhaseTwo(operator, operator, rows, self.shape, tuple(self.law.shapes(self.shape).domain), level)
        self.teacher = self.denoiser(torch.linalg.cholesky(self.cov))

    def denoiser(self, factor: Tensor) -> Tensor:
        """The optimal denoiser of what `W z` looks like in the domain."""
        seen = self.t @ factor
        return gaussian_denoiser(seen @ seen.T, self.level)[None]

    def gradient(self, factor: Tensor, loss: DistillationLoss) -> Tensor:
        return self.two.generator_gradient(factor, self.teacher, self.denoiser(factor), loss)


@pytest.mark.parametrize("loss", LOSSES, ids=["sid-1", "sid-1.2", "dmd"])
@pytest.mark.parametrize("name", RESTS)
def test_generator_rests_where_its_measurements_have_the_right_law(name: str, loss: DistillationLoss) -> None:
    """`Distillation` itself: at W W^T = C, and with anything added that the operator does not see; not at 1.1 W."""
    student = Student(name)
    root = torch.linalg.cholesky(student.cov)
    assert student.gradient(root, loss).abs().max() < 1e-11
    for factor in (0.9 * root, 1.1 * root):
        assert student.gradient(factor, loss).abs().max() > 1e-3
    unseen = torch.eye(len(root), dtype=F64) - torch.linalg.pinv(student.t) @ student.t
    if "downsampling" in name or name == "bicubic":
        other = root + unseen @ root.flip(0)
        assert (other @ other.T - student.cov).abs().max() > 0.1
        assert student.gradient(other, loss).abs().max() < 1e-11


@pytest.mark.parametrize("name", RESTS)
def test_fake_score_rests_at_the_law_of_the_generators_measurements(name: str) -> None:
    """`FakeScore.loss` with fresh noise of sigma_n: zero at `E[T x_g | T x_g + s n]`, which has none."""
    student = Student(name)
    factor = torch.linalg.cholesky(covariance(len(student.cov), seed=4))
    assert student.two.fake_gradient(factor, student.denoiser(factor), SiD()).abs().max() < 1e-10
    assert student.two.fake_gradient(factor, student.denoiser(1.1 * factor), SiD()).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["downsampling", "downsampling-noise"])
def test_gradient_by_hand_and_what_descent_leaves_alone(name: str) -> None:
    """DMD: T^T (B - A) T W / d. So W moves within the range of T^T: what is not measured stays as it began.

    Descent from a generator of unit variance reaches the right law of measurements, to 1e-3 of its largest entry.
    """
    student = Student(name)
    factor, t = torch.eye(8, dtype=F64), student.t
    by_hand = t.T @ (student.denoiser(factor)[0] - student.teacher[0]) @ t @ factor / len(t)
    torch.testing.assert_close(student.gradient(factor, Unscaled(loss=DMD())), by_hand, rtol=1e-9, atol=1e-11)
    law = t @ student.cov @ t.T
    start = t @ t.T
    assert (start - law).abs().max() > 0.1 * law.abs().max()
    rate = len(t) / float(torch.linalg.matrix_norm(t, 2)) ** 2
    for _ in range(300):
        factor = factor - rate * student.gradient(factor, Unscaled(loss=DMD()))
    seen = t @ factor
    torch.testing.assert_close(seen @ seen.T, law, rtol=0, atol=1e-3 * float(law.abs().max()))
    unseen = torch.eye(8, dtype=F64) - torch.linalg.pinv(t) @ t
    torch.testing.assert_close(unseen @ factor, unseen, rtol=0, atol=1e-10)


def test_derivatives_of_a_chain_are_taken_where_each_part_acts() -> None:
    """Two blurs, photons and a mask: the derivative of photon noise is that at the blurred image, against autograd."""
    small = {"kind": "blur", "size": 3, "std": 0.7}
    law = Compose(
        operators=(small, {"kind": "blur", "kernel": "motion", "size": 5}, {"kind": "poisson", "gain": 0.1}, "mask")
    )
    operator = law.draw(2, (1, 8, 9), torch.Generator().manual_seed(0))
    x = (2 * torch.rand(2, 1, 8, 9, generator=torch.Generator().manual_seed(1), dtype=F64) - 1).requires_grad_()
    w = torch.rand(2, 1, 8, 9, generator=torch.Generator().manual_seed(2), dtype=F64)
    (expected,) = torch.autograd.grad((operator.apply(x) * w).sum(), x)
    torch.testing.assert_close(operator.vjp(x.detach(), w), expected, rtol=1e-11, atol=1e-12)
    product = (operator.jvp(x.detach(), expected) * w).sum()
    torch.testing.assert_close(product, expected.square().sum(), rtol=1e-11, atol=1e-12)
