"""Distillation losses for a linear generator G(z) = W z of Gaussian data N(0, C), with exact teacher and fake score.

The teacher is the optimal denoiser A = C (C + s^2)^-1 and the fake score the optimal one of the generator's present
output, B = V (V + s^2)^-1 with V = W W^T: what the denoising objective on re-corrupted samples converges to. (z, n)
have a second moment of exactly the identity. Losses multiplied by their own scale `w` are quadratic, and so exact.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from closed_form import LinearDenoiser, covariance, gaussian_denoiser, gradient, quadratic_minimiser, whitened
from restill.corruption import Identity
from restill.diffusion import GaussianDenoiser
from restill.objectives import DMD, SDS, AmbientTweedie, DistillationLoss, Draw, Objective, SiD, Standard
from restill.objectives.distillation_losses import per_sample_scale

F64 = torch.float64
ALPHAS = [0.0, 0.5, 1.0, 1.2]
SCORE_LOSSES: list[DistillationLoss] = [*(SiD(alpha=alpha) for alpha in ALPHAS), DMD()]
LOSS_IDS = [*(f"sid-{alpha}" for alpha in ALPHAS), "dmd"]


def generator_loss(
    loss: DistillationLoss,
    factor: Tensor,
    cov: Tensor,
    levels: tuple[float, ...],
    *,
    fake: Tensor | None = None,
    error: Tensor | None = None,
    teacher_error: Tensor | None = None,
    scaled: bool = True,
) -> Tensor:
    """Mean loss over an exact sample for each level; the fake score belongs to `fake`, by default to the generator.

    `error` and `teacher_error` are added to the matrices of the fake score and of the teacher; `scaled=False`
    multiplies each sample's loss by its `w`.
    """
    dim = len(cov)
    fake = (factor @ factor.T).detach() if fake is None else fake
    z, noise = whitened(8 * dim, 2 * dim, seed=0).repeat(len(levels), 1).split(dim, dim=1)
    sigma = torch.tensor(levels, dtype=F64).repeat_interleave(8 * dim)
    u = (z @ factor.T).view(-1, 1, 1, dim)
    x_t = u + (sigma[:, None] * noise).view_as(u)
    a, b = (GaussianDenoiser(c)(x_t, sigma) for c in (cov, fake))
    if error is not None:
        b = b + x_t @ error.T
    if teacher_error is not None:
        a = a + x_t @ teacher_error.T
    values = loss(u, x_t, a, b, sigma)
    assert values.shape == sigma.shape
    return (values if scaled else values * per_sample_scale(u, a).flatten()).mean()


def factor_gradient(loss: DistillationLoss, factor: Tensor, cov: Tensor, *levels: float, scaled: bool = True) -> Tensor:
    point = factor.detach().clone().requires_grad_()
    return torch.autograd.grad(generator_loss(loss, point, cov, levels, scaled=scaled), point)[0]


def perturbed(cov: Tensor, size: float = 0.3) -> Tensor:
    factor = torch.linalg.cholesky(cov)
    return factor + size * torch.randn(factor.shape, generator=torch.Generator().manual_seed(1), dtype=F64)


@pytest.mark.parametrize("loss", SCORE_LOSSES, ids=LOSS_IDS)
def test_no_gradient_where_the_generator_has_the_datas_law(loss: DistillationLoss) -> None:
    """At any W with W W^T = C, pointwise in the noise and with the losses' own scale; elsewhere there is one."""
    cov = covariance(4)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(2), dtype=F64))[0]
    for factor in (torch.linalg.cholesky(cov), torch.linalg.cholesky(cov) @ rotation):
        assert factor_gradient(loss, factor, cov, 0.05, 0.5, 5.0).abs().max() < 1e-12
    assert factor_gradient(loss, perturbed(cov), cov, 0.05, 0.5, 5.0).abs().max() > 1e-3


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("sigma", [0.1, 0.7, 6.0])
def test_sid_gradient_by_hand(alpha: float, sigma: float) -> None:
    r"""With G = A - B, S = V + s^2: d L = tr(G (A - alpha G) S) - tr(G V), and A, B held fixed in

    dL/dW = [2 sym(G (A - alpha G)) - 2 G] W / d.
    """
    cov, factor = covariance(4), perturbed(covariance(4))
    a, b = gaussian_denoiser(cov, sigma), gaussian_denoiser(factor @ factor.T, sigma)
    gap = a - b
    first = gap @ (a - alpha * gap)
    expected = (first + first.T - 2 * gap) @ factor / 4
    got = factor_gradient(SiD(alpha=alpha), factor, cov, sigma, scaled=False)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_sid_is_a_multiple_of_the_fisher_divergence_at_the_optimal_fake_score(alpha: float) -> None:
    """(1 - alpha) E|a - b|^2 / d, and |a - b|^2 / s^4 is the squared distance of the scores: negative for alpha > 1."""
    cov, factor, sigma = covariance(4), perturbed(covariance(4)), 0.7
    v = factor @ factor.T + sigma**2 * torch.eye(4, dtype=F64)
    score_gap = torch.linalg.inv(v) - torch.linalg.inv(cov + sigma**2 * torch.eye(4, dtype=F64))
    fisher = torch.trace(score_gap @ v @ score_gap)
    value = generator_loss(SiD(alpha=alpha), factor, cov, (sigma,), scaled=False)
    torch.testing.assert_close(value, (1 - alpha) * sigma**4 * fisher / 4, rtol=1e-9, atol=1e-12)
    assert fisher > 1e-2


@pytest.mark.parametrize("sigma", [0.1, 0.7])
def test_errors_of_the_scores_move_where_sid_rests_and_not_dmd(sigma: float) -> None:
    """Where the generator is right, and a score is wrong by +E as often as by -E.

    dL/dW = -2 alpha E^2 W / d for the fake score, which adds power, and 2 (1 - alpha) E^2 W / d for the teacher.
    """
    cov = covariance(4)
    factor = torch.linalg.cholesky(cov)
    error = 0.1 * covariance(4, seed=5)

    def mean_gradient(loss: DistillationLoss, of: str) -> Tensor:
        point = factor.detach().clone().requires_grad_()
        values = [generator_loss(loss, point, cov, (sigma,), scaled=False, **{of: e}) for e in (error, -error)]
        return torch.autograd.grad(torch.stack(values).mean(), point)[0]

    for alpha in ALPHAS:
        for of, share in (("error", -alpha), ("teacher_error", 1 - alpha)):
            expected = 2 * share * error @ error @ factor / 4
            torch.testing.assert_close(mean_gradient(SiD(alpha=alpha), of), expected, rtol=1e-9, atol=1e-12)
    for of in ("error", "teacher_error"):
        assert mean_gradient(DMD(), of).abs().max() < 1e-12


def test_sid_value_with_a_wrong_fake_score() -> None:
    """E[(a - b) ((b* - u) + (a - b*) - alpha (a - b))]: the part with b* - u vanishes for any linear b."""
    cov, factor, sigma, alpha = covariance(4), perturbed(covariance(4)), 0.7, 1.2
    wrong = covariance(4, seed=3)
    a, b, best = (gaussian_denoiser(c, sigma) for c in (cov, wrong, factor @ factor.T))
    v = factor @ factor.T + sigma**2 * torch.eye(4, dtype=F64)
    expected = torch.trace((a - b) @ v @ ((a - best) - alpha * (a - b)).T) / 4
    value = generator_loss(SiD(alpha=alpha), factor, cov, (sigma,), fake=wrong, scaled=False)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 6.0])
def test_dmd_gradient_by_hand(sigma: float) -> None:
    """(B - A) W / d, which is s^2/d times the gradient of KL(N(0, V + s^2) | N(0, C + s^2))."""
    cov, factor = covariance(4), perturbed(covariance(4))
    expected = (gaussian_denoiser(factor @ factor.T, sigma) - gaussian_denoiser(cov, sigma)) @ factor / 4
    got = factor_gradient(DMD(), factor, cov, sigma, scaled=False)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)

    point = factor.clone().requires_grad_()
    noise = sigma**2 * torch.eye(4, dtype=F64)
    laws = [
        torch.distributions.MultivariateNormal(torch.zeros(4, dtype=F64), c + noise) for c in (point @ point.T, cov)
    ]
    (kl,) = torch.autograd.grad(torch.distributions.kl_divergence(*laws), point)
    torch.testing.assert_close(got, sigma**2 / 4 * kl, rtol=1e-9, atol=1e-11)


def descend(
    loss: DistillationLoss,
    factor: Tensor,
    cov: Tensor,
    *levels: float,
    rate: float,
    steps: int,
    scaled: bool = True,
) -> Tensor:
    """Plain gradient descent, with the fake score refitted at every step."""
    for _ in range(steps):
        factor = factor - rate * factor_gradient(loss, factor, cov, *levels, scaled=scaled)
    return factor


@pytest.mark.parametrize("loss", SCORE_LOSSES, ids=LOSS_IDS)
def test_gradient_descent_finds_the_data(loss: DistillationLoss) -> None:
    cov = covariance(2, low=0.3, high=1.5)
    start = perturbed(cov)
    found = descend(loss, start, cov, 0.3, 1.0, rate=0.3, steps=400)
    assert (start @ start.T - cov).abs().max() > 0.2
    torch.testing.assert_close(found @ found.T, cov, rtol=0, atol=1e-4)


def test_sid_with_alpha_above_one_has_a_second_stationary_point() -> None:
    """1-D, teacher's factor c = C/(C + s^2), fake score's k = v/(v + s^2), v the generator's variance:

    dL/dW = 2 W (k - c) [(1 - c) - alpha (k - c)], which vanishes at k = c and at k = c + (1 - c)/alpha. Below the
    second one descent shrinks an over-dispersed generator, above it descent runs away. For alpha <= 1 no k < 1 is one.
    """
    cov, sigma, alpha = torch.tensor([[0.25]], dtype=F64), 1.0, 1.2
    c = 0.25 / (0.25 + sigma**2)
    k = c + (1 - c) / alpha
    variance = sigma**2 * k / (1 - k)
    assert k < 1 and variance > 10 * 0.25

    def slope(variance: float, alpha: float) -> float:
        factor = torch.tensor([[variance]], dtype=F64).sqrt()
        return factor_gradient(SiD(alpha=alpha), factor, cov, sigma, scaled=False).item()

    assert abs(slope(variance, alpha)) < 1e-12
    assert slope(0.9 * variance, alpha) > 1e-3 and slope(1.1 * variance, alpha) < -1e-3
    assert slope(0.5 * 0.25, alpha) < -1e-3
    for v in (0.5, 1.0, 10.0, 1e3, 1e5):
        w, ratio = v**0.5, v / (v + sigma**2)
        for alpha in (0.5, 1.0, 1.2):
            expected = 2 * w * (ratio - c) * ((1 - c) - alpha * (ratio - c))
            assert slope(v, alpha) == pytest.approx(expected, rel=1e-9)
        assert slope(v, 1.0) > 0 and slope(v, 0.5) > 0


@pytest.mark.parametrize("alpha", [1.0, 1.2])
def test_second_stationary_point_with_the_losses_own_scale(alpha: float) -> None:
    """With many entries `w` hardly varies between samples, and the fixed-scale result stands.

    Isotropic data of 768 entries, n = 200: the slopes are at least 0.08, their standard error is below 0.005. (In 1-D
    it would not: 1/|u - a| has no finite mean there, so that the few smallest |u - a| decide.)
    """
    z, noise = torch.randn(2, 200, 768, 1, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    sigma, c = torch.ones(200, dtype=F64), 0.25 / 1.25
    for variance, expected_sign in ((4.0, 1), (10.0, -1 if alpha > 1 else 1)):
        scale = torch.tensor(variance**0.5, dtype=F64, requires_grad=True)
        u = scale * z
        x_t = u + noise
        loss = SiD(alpha=alpha)(u, x_t, c * x_t, variance / (variance + 1) * x_t, sigma).mean()
        slope = torch.autograd.grad(loss, scale)[0].item()
        assert slope * expected_sign > 0.08


def test_over_dispersed_start_runs_away_for_alpha_above_one_only() -> None:
    cov, start = torch.tensor([[0.25]], dtype=F64), torch.tensor([[5.0]], dtype=F64)
    assert descend(SiD(alpha=1.2), start, cov, 1.0, rate=0.1, steps=200, scaled=False).abs().item() > 10
    found = descend(SiD(alpha=1.0), start, cov, 1.0, rate=0.3, steps=300, scaled=False)
    assert found.square().item() == pytest.approx(0.25, abs=1e-4)
    inside = descend(SiD(alpha=1.2), torch.tensor([[2.4]], dtype=F64), cov, 1.0, rate=0.3, steps=300, scaled=False)
    assert inside.square().item() == pytest.approx(0.25, abs=1e-4)


def test_sds_collapses_to_the_mean() -> None:
    """Gradient (1 - A) W / (s d): positive definite times W, whatever the generator's law, C itself included."""
    cov = covariance(4)
    for factor in (perturbed(cov), torch.linalg.cholesky(cov)):
        expected = (torch.eye(4, dtype=F64) - gaussian_denoiser(cov, 0.7)) @ factor / (0.7 * 4)
        torch.testing.assert_close(factor_gradient(SDS(), factor, cov, 0.7), expected, rtol=1e-9, atol=1e-11)
    assert descend(SDS(), perturbed(cov), cov, 0.3, 1.0, rate=1.0, steps=1000).abs().max() < 1e-6


def test_gradients_stop_where_they_should() -> None:
    """DMD and SDS send nothing through the networks; no loss sends anything through its scale."""
    u, a, b = (whitened(8, 3, seed).view(8, 3, 1, 1).requires_grad_() for seed in range(3))
    sigma = torch.full((8,), 0.7, dtype=F64)
    for loss in (DMD(), SDS()):
        grads = torch.autograd.grad(loss(u, u, a, b, sigma).sum(), (u, a, b), allow_unused=True)
        assert grads[0] is not None and grads[0].abs().max() > 1e-3 and grads[1] is None and grads[2] is None
        assert not loss.through_networks
    assert SiD().through_networks and SiD().uses_fake and DMD().uses_fake and not SDS().uses_fake
    scale = per_sample_scale(u, a)
    assert not scale.requires_grad
    torch.testing.assert_close(scale.flatten(), (u - a).abs().mean((1, 2, 3)).detach())
    torch.testing.assert_close(per_sample_scale(u, u).flatten(), torch.full((8,), 1e-5, dtype=F64))
    du, da, db = torch.autograd.grad(SiD(alpha=1.2)(u, u, a, b, sigma).sum(), (u, a, b))
    gap = a - b
    torch.testing.assert_close(du, -gap / scale / 3)
    torch.testing.assert_close(da, ((a - u) - 2.4 * gap + gap) / scale / 3)
    torch.testing.assert_close(db, (-(a - u) + 2.4 * gap) / scale / 3)


def test_gradients_on_the_images_are_those_of_each_sample() -> None:
    """Without expectations: DMD's is (b - a)/(w d), SDS's (u - a)/(s d), whatever the noise is."""
    u, x_t, a, b = (whitened(8, 3, seed).view(8, 3, 1, 1) for seed in range(4))
    sigma = torch.linspace(0.3, 5, 8, dtype=F64)
    scale = (u - a).abs().mean((1, 2, 3), keepdim=True)
    for loss, expected in ((DMD(), (b - a) / scale), (SDS(), (u - a) / sigma.view(-1, 1, 1, 1))):
        got = gradient(lambda u, loss=loss: loss(u, x_t, a, b, sigma).sum(), u)  # type: ignore[misc]
        torch.testing.assert_close(got, expected / 3)


@pytest.mark.parametrize("loss", SCORE_LOSSES, ids=LOSS_IDS)
@pytest.mark.parametrize(("objective", "stationary"), [(AmbientTweedie(), True), (Standard(), False)])
def test_teacher_and_fake_score_need_the_same_objective(
    loss: DistillationLoss, objective: Objective, stationary: bool
) -> None:
    """W W^T = C, re-corrupted with sigma_n = 0.4; a fake score fitted by Ambient Tweedie matches a clean teacher.

    One fitted by the standard objective knows the noise, disagrees with that teacher, and pushes the generator away.
    """
    cov, sigma, sigma_n, n = covariance(3), 0.9, 0.4, 60
    factor = torch.linalg.cholesky(cov)
    z, eps, noise = whitened(n, 9, seed=5).split(3, dim=1)
    y = (z @ factor.T + sigma_n * eps).view(-1, 1, 1, 3)
    operator = Identity(torch.full((n,), sigma_n, dtype=F64))
    draw = Draw(torch.full((n,), sigma, dtype=F64), noise.reshape(-1, 1, 1, 3))
    fake = quadratic_minimiser(lambda k: objective(LinearDenoiser(k), y, operator, operator, draw).mean(), cov)

    point = factor.clone().requires_grad_()
    z, noise = whitened(n, 6, seed=6).split(3, dim=1)
    u = (z @ point.T).view(-1, 1, 1, 3)
    x_t = u + sigma * noise.reshape(-1, 1, 1, 3)
    a, b = (LinearDenoiser(k)(x_t, draw.sigma) for k in (gaussian_denoiser(cov, sigma), fake))
    largest = torch.autograd.grad(loss(u, x_t, a, b, draw.sigma).mean(), point)[0].abs().max()
    assert largest < 1e-8 if stationary else largest > 1e-2
