"""The consistency penalty on Gaussian data: zero, with its gradient, at the optimal denoiser and only there.

The noise of the ancestral path is a sample whose second moment is exactly the identity, so expectations are exact.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from closed_form import covariance, whitened
from restill.core.errors import UserError
from restill.corruption import Identity, Operator
from restill.diffusion import GaussianDenoiser
from restill.objectives import Consistency
from restill.objectives.consistency import Step
from restill.sampling import heun

F64 = torch.float64
SHAPE = (1, 1, 3)
HIGH, LOW = 1.3, 0.2


class ScaledDenoiser(nn.Module):
    """The optimal denoiser of N(0, C), multiplied by a factor at the level `LOW` and by another one elsewhere."""

    def __init__(self, cov: Tensor, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.best, self.low, self.high = GaussianDenoiser(cov), low, high

    def forward(
        self, x_t: Tensor, sigma: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        scale = torch.where(torch.isclose(sigma, torch.tensor(LOW, dtype=F64)), self.low, self.high)
        return scale.view(-1, 1, 1, 1) * self.best(x_t, sigma)


def expected_penalty(low: Tensor, high: Tensor, ends: int, steps: int) -> Tensor:
    """Mean penalty over x_s, which has its marginal law, and over the paths."""
    dim, cov = 3, covariance(3)
    joint = whitened(400, dim * (1 + ends * steps), seed=0)
    x = joint[:, :dim] @ torch.linalg.cholesky(cov + HIGH**2 * torch.eye(dim, dtype=F64)).T
    noise = joint[:, dim:].reshape(400, ends, steps, *SHAPE).permute(1, 2, 0, 3, 4, 5)
    step = Step(torch.full((400,), LOW, dtype=F64), noise)
    sigma = torch.full((400,), HIGH, dtype=F64)
    denoiser = ScaledDenoiser(cov, low, high)
    penalty = Consistency(ends=ends, steps=steps)
    return penalty(denoiser, x.view(-1, *SHAPE), sigma, step, Identity(torch.zeros(400))).mean()


def value_and_gradients(low: float, high: float, ends: int, steps: int) -> tuple[float, list[float]]:
    scales = [torch.tensor(value, dtype=F64, requires_grad=True) for value in (low, high)]
    penalty = expected_penalty(scales[0], scales[1], ends, steps)
    return penalty.item(), [g.item() for g in torch.autograd.grad(penalty, scales)]


@pytest.mark.parametrize("ends", [2, 3])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_penalty_and_gradient_vanish_at_the_optimum_only(ends: int, steps: int) -> None:
    """For any number of ends and steps: neither the variance of the ends nor the coarseness of the path biases it."""
    value, gradients = value_and_gradients(1.0, 1.0, ends, steps)
    assert abs(value) < 1e-12 and max(map(abs, gradients)) < 1e-12
    value, gradients = value_and_gradients(0.8, 1.0, ends, steps)
    assert value > 1e-3 and gradients[0] < -1e-3 and gradients[1] > 1e-3


def test_wrong_denoiser_has_the_squared_distance_as_penalty() -> None:
    """One step, factor f at the end: E|(1 - f) D(x_s)|^2 = (1 - f)^2 tr(C (C + s^2)^-1 C) / d, from the martingale."""
    cov = covariance(3)
    best = torch.linalg.solve(cov + HIGH**2 * torch.eye(3, dtype=F64), cov)
    expected = 0.3**2 * torch.trace(best @ cov).item() / 3
    assert value_and_gradients(0.7, 1.0, ends=2, steps=1)[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_path_is_the_posterior_of_the_noise(steps: int) -> None:
    """Data that are zero, D = 0 on the path and D = x at its end.

    Then x_s' has mean r x_s, r = s'^2/s^2, for any number of steps. Two ends with opposite noise have gaps -(r x + e)
    and -(r x - e), whose product r^2 x^2 - e^2 gives the variance, s'^2 (1 - r), of e.
    """

    class Path(nn.Module):
        def forward(self, x_t: Tensor, sigma: Tensor, operator: Operator, labels: Tensor | None = None) -> Tensor:
            return x_t * torch.isclose(sigma, torch.tensor(LOW, dtype=F64)).to(x_t).view(-1, 1, 1, 1)

    joint = whitened(200, 3 * (1 + steps), seed=0)
    x = joint[:, :3].reshape(-1, *SHAPE)
    noise = joint[:, 3:].reshape(200, steps, *SHAPE).transpose(0, 1)
    step = Step(torch.full((200,), LOW, dtype=F64), torch.stack([noise, -noise]))
    sigma = torch.full((200,), HIGH, dtype=F64)
    penalty = Consistency(ends=2, steps=steps)(Path(), x, sigma, step, Identity(torch.zeros(200))).mean()
    ratio = LOW**2 / HIGH**2
    assert penalty.item() == pytest.approx(ratio**2 - LOW**2 * (1 - ratio), rel=1e-10)


def test_deterministic_path_is_no_martingale() -> None:
    """Along the probability flow D grows by sqrt((s^2 + v)/(s'^2 + v)), here followed by 400 Heun steps."""
    variance = torch.tensor([0.1, 0.5, 2.0], dtype=F64)
    denoiser = GaussianDenoiser(torch.diag(variance))
    x = torch.ones(1, *SHAPE, dtype=F64)
    before = denoiser(x, HIGH)
    after = heun(denoiser, x / HIGH, 400, sigma_max=HIGH, sigma_min=LOW, stop_at=LOW / 2)
    expected = ((HIGH**2 + variance) / (LOW**2 + variance)).sqrt()
    assert (expected > 1.2).all()
    torch.testing.assert_close((after / before).flatten(), expected, rtol=1e-4, atol=0)


def test_ends_are_log_uniform_and_never_above_the_start() -> None:
    """n = 40,000: mean and variance of log s' within 5 standard errors; starts below sigma_min stay where they are."""
    n = 40_000
    start = torch.full((n,), 3.0, dtype=F64)
    end = Consistency().draw(torch.zeros(n, 1, 1, 1), start, torch.Generator().manual_seed(0)).sigma
    width = math.log(3.0 / 0.002)
    position = (end / 0.002).log() / width
    assert position.min() >= 0 and position.max() <= 1
    assert abs(position.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n)
    assert abs(position.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    tiny = torch.full((4,), 0.001, dtype=F64)
    drawn = Consistency(ends=3, steps=4).draw(torch.zeros(4, *SHAPE), tiny, torch.Generator())
    torch.testing.assert_close(drawn.sigma, tiny)
    assert drawn.noise.shape == (3, 4, 4, *SHAPE) and drawn.noise.std() > 0.5


def test_ends_and_paths_are_functions_of_the_generator() -> None:
    sigma = torch.full((20,), 2.0)
    first, again, other = (
        Consistency().draw(torch.zeros(20, *SHAPE), sigma, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    for one, same, another in zip(first, again, other, strict=True):
        assert torch.equal(one, same) and not torch.equal(one, another)
    noise = first.noise.flatten(2)
    assert not any(torch.equal(noise[i, j], noise[0, 0]) for i in range(2) for j in range(2) if (i, j) != (0, 0))
    assert len(first.sigma.unique()) == 20


def test_one_end_is_refused() -> None:
    with pytest.raises(UserError, match="ends"):
        Consistency(ends=1)
