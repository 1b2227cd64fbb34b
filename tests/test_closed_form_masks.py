"""The law of missing pixels in closed form: every mask and further mask of a small image with its probability.

Gaussian data, linear denoisers conditional on the mask, exact moments of (x, eps, n): no statistical error is left. The
loss is a convex quadratic of the matrices, so that it is least exactly where its gradient vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from closed_form import covariance, edm_weight, gradient
from closed_form_operators import (
    ExactSample,
    Part,
    PhaseTwo,
    Shown,
    Unscaled,
    all_masks,
    bernoulli_pairs,
    index_of,
    posterior_mean,
    table,
)
from restill.corruption import Mask, MaskOperator, Operator
from restill.diffusion import Prior
from restill.objectives import DMD, AmbientTweedie, DistillationLoss, Objective, SiD, Standard

F64 = torch.float64
ROW, SQUARE, COLOURS = (1, 1, 3), (1, 2, 2), (2, 1, 2)


def parts(shape: tuple[int, int, int], pairs: list[Shown], *sigma_n: float) -> list[Part]:
    """One batch for each pair of masks and level of noise."""
    n = 6 * torch.Size(shape).numel() + 10
    made = []
    for mask, further, probability in pairs:
        for level in sigma_n:
            levels = torch.full((n,), level, dtype=F64)
            first, second = (MaskOperator(levels, m.expand(n, *shape)) for m in (mask, further))
            made.append(Part(first, second, probability / len(sigma_n)))
    return made


class OtherWeights(AmbientTweedie, kind="test-closed-form-masks"):
    """The same objective with seven times the weight on what is not shown."""

    def whitened(self, residual: Tensor, further: Operator, sigma: Tensor, c: Tensor, prior: Prior) -> Tensor:
        found = super().whitened(residual, further, sigma, c, prior)
        return found + (7**0.5 - 1) * (found - further.seen(found))


def expect_minimum(sample: ExactSample, best: Tensor, shown: list[Tensor], *objectives: Objective) -> None:
    """The gradient is zero at `best`, and at no other matrix of a mask that shows anything; the loss is larger."""
    for objective in objectives:

        def loss(weight: Tensor, objective: Objective = objective) -> Tensor:
            return sample.loss(objective, weight)

        assert gradient(loss, best).abs().max() < 1e-10
        elsewhere = gradient(loss, 0.9 * best)
        for mask in shown:
            assert not mask.any() or elsewhere[index_of(mask[None])].abs().max() > 1e-5
        assert loss(0.9 * best) > loss(best) + 1e-4 and loss(1.1 * best) > loss(best) + 1e-4


CASES = [
    (ROW, False, (0.0,), 0.8),
    (ROW, False, (0.3,), 0.31),
    (SQUARE, False, (0.3,), 0.8),
    (COLOURS, True, (0.3,), 2.5),
    (COLOURS, False, (0.0, 0.2, 0.4), 0.7),
]


@pytest.mark.parametrize(("shape", "per_channel", "sigma_n", "sigma"), CASES, ids=str)
def test_one_denoiser_for_all_masks(
    shape: tuple[int, int, int], per_channel: bool, sigma_n: tuple[float, ...], sigma: float
) -> None:
    """With one level of noise, none, or several; whatever the weights, since every output has its own best value."""
    dim = torch.Size(shape).numel()
    cov, pairs = covariance(dim), bernoulli_pairs(shape, p=0.6, delta=0.1, per_channel=per_channel)
    shown = all_masks(shape, per_channel)
    sample = ExactSample(cov, shape, parts(shape, pairs, *sigma_n), sigma)
    best = table(lambda mask: posterior_mean(cov, mask, sigma), shown)
    expect_minimum(sample, best, shown, AmbientTweedie(), AmbientTweedie(c_min=1.0), OtherWeights())
    if sigma_n != (0.0,):
        assert gradient(lambda weight: sample.loss(Standard(), weight), best).abs().max() > 1e-3


def test_clean_samples_among_masked_ones() -> None:
    """`clean_fraction` 0.3: whole images without noise, of which further masks take pixels away as well."""
    cov, sigma, shown = covariance(3), 0.7, all_masks(ROW)
    whole = bernoulli_pairs(ROW, p=0.0, delta=0.1)
    masked = parts(ROW, bernoulli_pairs(ROW, p=0.6, delta=0.1), 0.4)
    mixed = [part._replace(share=0.7 * part.share) for part in masked]
    mixed += [part._replace(share=0.3 * part.share) for part in parts(ROW, whole, 0.0) if part.share > 0]
    best = table(lambda mask: posterior_mean(cov, mask, sigma), shown)
    expect_minimum(ExactSample(cov, ROW, mixed, sigma), best, shown, AmbientTweedie(), OtherWeights())


def test_least_loss_is_the_weighted_posterior_variance() -> None:
    """Sum over masks of lambda(s) Var where shown, Var/sigma_data^2 where observed and not shown, nothing elsewhere."""
    cov, sigma, sigma_data = covariance(3), 0.6, 0.8
    pairs = bernoulli_pairs(ROW, p=0.5, delta=0.3)
    sample = ExactSample(cov, ROW, parts(ROW, pairs, 0.0), sigma)
    best = table(lambda mask: posterior_mean(cov, mask, sigma), all_masks(ROW))
    seen = edm_weight(torch.tensor(sigma, dtype=F64), sigma_data)
    hidden = torch.tensor(1 / sigma_data**2, dtype=F64)
    expected = 0.0
    for mask, further, probability in pairs:
        variance = (cov - posterior_mean(cov, further, sigma) @ torch.diag(further.flatten().to(F64)) @ cov).diag()
        weight = torch.where(further, seen, hidden).flatten() * mask.flatten()
        expected += probability * float(weight @ variance) / 3
    got = sample.loss(AmbientTweedie(), best, Prior.white(sigma_data))
    assert got.item() == pytest.approx(expected, rel=1e-10)


def test_without_further_masks_nothing_is_learned_of_gaps() -> None:
    """Shown all that was observed, the loss does not depend on what D says of missing pixels."""
    cov, sigma = covariance(3), 0.8
    pairs = [Shown(mask, mask, 1 / 8) for mask in all_masks(ROW)]
    sample = ExactSample(cov, ROW, parts(ROW, pairs, 0.3), sigma)
    best = table(lambda mask: posterior_mean(cov, mask, sigma), all_masks(ROW))
    hidden = torch.stack([torch.diag((~mask).flatten().to(F64)) for mask in all_masks(ROW)])
    order = torch.cat([index_of(mask[None]) for mask in all_masks(ROW)])
    blind = best.clone()
    blind[order] -= hidden @ best[order]
    assert (blind - best).abs().max() > 0.1
    torch.testing.assert_close(sample.loss(AmbientTweedie(), blind), sample.loss(AmbientTweedie(), best))


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_law_draws_these_pairs(per_channel: bool) -> None:
    """n = 20,000 draws of `Mask` and its further masks: every pair's share within 5 standard errors, and no others."""
    n, shape = 20_000, (2, 1, 2)
    law = Mask(p=0.6, delta=0.1, per_channel=per_channel)
    operator = law.draw(n, shape, torch.Generator().manual_seed(0))
    further = law.further(operator, torch.Generator().manual_seed(1))
    both = torch.stack([index_of(operator.mask), index_of(further.mask)])
    pairs, counts = torch.unique(both, dim=1, return_counts=True)
    counted = {(int(a), int(b)): int(count) for (a, b), count in zip(pairs.T, counts, strict=True)}
    total = 0
    for mask, shown, probability in bernoulli_pairs(shape, 0.6, 0.1, per_channel):
        found = counted.get((int(index_of(mask[None])), int(index_of(shown[None]))), 0)
        assert abs(found / n - probability) <= 5 * (probability * (1 - probability) / n) ** 0.5
        total += found
    assert total == n


def phase_two(pairs: list[Shown], level: float, sigma_n: float = 0.0) -> PhaseTwo:
    rows = 30
    mask, further = (torch.stack([pair[k] for pair in pairs]).repeat_interleave(rows, 0) for k in range(2))
    levels = torch.full((len(mask),), sigma_n, dtype=F64)
    return PhaseTwo(MaskOperator(levels, mask), MaskOperator(levels, further), rows, ROW, ROW, level)


def denoisers(factor: Tensor, level: float) -> Tensor:
    """The optimal denoisers of `x = W z`, for all masks."""
    return table(lambda mask: posterior_mean(factor @ factor.T, mask, level), all_masks(ROW))


ALL_PAIRS = bernoulli_pairs(ROW, p=0.6, delta=0.1)
LOSSES: list[DistillationLoss] = [SiD(alpha=1.0), SiD(alpha=1.2), DMD()]


@pytest.mark.parametrize("loss", LOSSES, ids=["sid-1", "sid-1.2", "dmd"])
def test_generator_rests_where_it_has_the_datas_law(loss: DistillationLoss) -> None:
    """`Distillation` itself: no gradient for any W with W W^T = C, one for W scaled or with one wrong correlation."""
    cov = covariance(3)
    root = torch.linalg.cholesky(cov)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=F64))[0]
    two, teacher = phase_two(ALL_PAIRS, 0.7), denoisers(root, 0.7)
    for factor in (root, root @ rotation):
        assert two.generator_gradient(factor, teacher, denoisers(factor, 0.7), loss).abs().max() < 1e-12
    for factor in (0.9 * root, 1.1 * root, torch.diag(cov.diag().sqrt())):
        assert two.generator_gradient(factor, teacher, denoisers(factor, 0.7), loss).abs().max() > 1e-3


def test_what_no_mask_shows_is_not_judged() -> None:
    """Masks that never show two pixels together: the right variances are enough, whatever the correlations."""
    single = [Shown(mask, mask, 1 / 3) for mask in all_masks(ROW) if mask.sum() == 1]
    cov = covariance(3)
    alone = torch.diag(cov.diag().sqrt())
    assert (alone @ alone.T - cov).abs().max() > 0.1
    two, teacher = phase_two(single, 0.7), denoisers(torch.linalg.cholesky(cov), 0.7)
    assert two.generator_gradient(alone, teacher, denoisers(alone, 0.7), SiD()).abs().max() < 1e-12
    assert two.generator_gradient(1.1 * alone, teacher, denoisers(1.1 * alone, 0.7), SiD()).abs().max() > 1e-3


def test_nothing_of_missing_pixels_is_shown_or_compared() -> None:
    """What the loss is given: u = M x_g, x_t = M~ (x_g + s n), and of both networks' outputs what M observes."""
    seen: list[tuple[Tensor, ...]] = []

    @dataclass(frozen=True)
    class Recording(DistillationLoss):
        def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
            seen.append((u, x_t, a, b))
            return u.flatten(1).mean(1)

    factor, level = torch.linalg.cholesky(covariance(3)), 0.7
    teacher, fake = denoisers(factor, level), denoisers(1.2 * factor, level)
    two = phase_two(ALL_PAIRS, level)
    two.generator_gradient(factor, teacher, fake, Recording())
    (u, x_t, a, b), (z, noise) = seen[0], two.exact(ROW, ROW)
    x = (z.flatten(1) @ factor.T).view(-1, *ROW)
    operator, shown = two.law.operator, two.law.shown
    assert isinstance(operator, MaskOperator) and isinstance(shown, MaskOperator)
    torch.testing.assert_close(u, operator.mask * x)
    torch.testing.assert_close(x_t, shown.mask * (x + level * noise))
    for got, weight in ((a, teacher), (b, fake)):
        denoised = torch.einsum("nij,nj->ni", weight[index_of(shown.mask)], x_t.flatten(1)).view_as(x_t)
        torch.testing.assert_close(got, operator.mask * denoised)
    assert (x_t[~shown.mask] == 0).all() and (a[~operator.mask] == 0).all()


@pytest.mark.parametrize("alpha", [1.0, 1.2])
def test_generator_gradient_by_hand(alpha: float) -> None:
    r"""With A, B the matrices of a mask M~, G = M (A - B), V = W W^T and S = M~ (V + s^2) M~, the loss is

    L = [tr(G S (M A - alpha G)^T) - tr(G M~ V M)] / d, A and B held fixed, and DMD's gradient M (B - A) M~ W / d.
    """
    cov, level = covariance(3), 0.7
    factor = torch.linalg.cholesky(cov) + 0.3 * torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    teacher, fake = denoisers(torch.linalg.cholesky(cov), level), denoisers(factor, level)

    def expected(point: Tensor) -> Tensor:
        v, total = point @ point.T, torch.zeros((), dtype=F64)
        for mask, further, _ in ALL_PAIRS:
            m, shown = (torch.diag(part.flatten().to(F64)) for part in (mask, further))
            a, b = (m @ weight[index_of(further[None])[0]] for weight in (teacher, fake))
            s = shown @ (v + level**2 * torch.eye(3, dtype=F64)) @ shown
            total = total + torch.trace((a - b) @ s @ (a - alpha * (a - b)).T) - torch.trace((a - b) @ shown @ v @ m)
        return total / 3 / len(ALL_PAIRS)

    two = phase_two(ALL_PAIRS, level)
    got = two.generator_gradient(factor, teacher, fake, Unscaled(loss=SiD(alpha=alpha)))
    torch.testing.assert_close(got, gradient(expected, factor), rtol=1e-9, atol=1e-11)

    by_hand = torch.zeros(3, 3, dtype=F64)
    for mask, further, _ in ALL_PAIRS:
        m, shown = (torch.diag(part.flatten().to(F64)) for part in (mask, further))
        index = index_of(further[None])[0]
        by_hand += m @ (fake[index] - teacher[index]) @ shown @ factor / 3 / len(ALL_PAIRS)
    got = two.generator_gradient(factor, teacher, fake, Unscaled(loss=DMD()))
    torch.testing.assert_close(got, by_hand, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sigma_n", [0.0, 0.4])
def test_fake_score_rests_at_the_generators_posterior_mean(sigma_n: float) -> None:
    """`FakeScore.loss`, re-corrupted with noise or without: zero at E[x_g | M~(x_g + s n)] alone."""
    factor = torch.linalg.cholesky(covariance(3, seed=4))
    two, best = phase_two(ALL_PAIRS, 0.7, sigma_n), denoisers(factor, 0.7)
    assert two.fake_gradient(factor, best, SiD()).abs().max() < 1e-10
    assert two.fake_gradient(factor, denoisers(1.1 * factor, 0.7), SiD()).abs().max() > 1e-4


def test_descent_through_masks_finds_the_data() -> None:
    """A generator of twice the data's size, the fake score refitted at every step: W W^T = C to 1e-3."""
    cov = covariance(3, low=0.3, high=1.2)
    factor, level = 1.4 * torch.eye(3, dtype=F64), 0.7
    two, teacher = phase_two(ALL_PAIRS, level), denoisers(torch.linalg.cholesky(cov), level)
    assert (factor @ factor.T - cov).abs().max() > 0.5
    for _ in range(250):
        factor = factor - 1.5 * two.generator_gradient(
            factor, teacher, denoisers(factor, level), Unscaled(loss=SiD(alpha=1.0))
        )
    torch.testing.assert_close(factor @ factor.T, cov, rtol=0, atol=1e-3)
