"""Undersampled multi-coil k-space in closed form: complex Gaussian images, linear denoisers conditional on the lines.

Every pair of sampled and shown lines of a small image has a probability, and the moments of (x, eps, n) are exact, so
that no statistical error is left.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from closed_form import covariance, gradient
from closed_form_operators import ExactSample, Part, PhaseTwo, index_of, matrix_of
from restill.corruption import MriOperator, Operator
from restill.diffusion import ClosedForm, Noisy, Prior
from restill.objectives import DMD, AmbientTweedie, DistillationLoss, SiD, Standard
from restill.sampling import Heun, OneStep

F64 = torch.float64
SHAPE, WIDTH = (2, 2, 3), 3
DIM = 12


def lines(*columns: int) -> Tensor:
    """Lines that are measured, bool `[1, 1, W]`."""
    return torch.tensor([k in columns for k in range(WIDTH)])[None, None]


ALL = [lines(1), lines(0, 1), lines(1, 2), lines(0, 1, 2)]
PAIRS = [(mask, further) for mask, further in itertools.product(ALL, repeat=2) if (further <= mask).all()]


def coil_maps(coils: int) -> Tensor:
    """Random maps `[coils, H, W, 2]` with sum |S|^2 = 1."""
    maps = torch.randn(coils, *SHAPE[1:], 2, generator=torch.Generator().manual_seed(coils), dtype=F64)
    return maps / maps.square().sum(dim=(0, -1), keepdim=True).sqrt()


def operator(mask: Tensor, coils: int, sigma_n: float = 0.0, n: int = 1) -> MriOperator:
    levels = torch.full((n,), sigma_n, dtype=F64)
    return MriOperator(levels, mask.expand(n, *mask.shape), coil_maps(coils).expand(n, -1, -1, -1, -1).contiguous())


def posterior_mean(cov: Tensor, mask: Tensor, coils: int, sigma: float) -> Tensor:
    """`E[x | A^H (A x + s eps)] = C H (H C H + s^2 H)^+` with `H = A^H A`, as a matrix."""
    seen = matrix_of(operator(mask, coils, n=DIM).seen, SHAPE)
    return cov @ seen @ torch.linalg.pinv(seen @ cov @ seen + sigma**2 * seen, rtol=1e-10, hermitian=True)


def shown(mask: Tensor) -> Tensor:
    """A mask as the network is shown it."""
    return mask.expand(2, 2, WIDTH)


def optimal(cov: Tensor, coils: int, sigma: float) -> Tensor:
    """The optimal denoisers for all lines, as `ConditionalLinear` takes them."""
    found = {int(index_of(shown(mask)[None])): posterior_mean(cov, mask, coils, sigma) for mask in ALL}
    weight = torch.zeros(2**DIM, DIM, DIM, dtype=F64)
    for index, matrix in found.items():
        weight[index] = matrix
    return weight


def sample_of(
    cov: Tensor, coils: int, sigma_n: tuple[float, ...], sigma: float, wrap: type | None = None
) -> ExactSample:
    """All pairs of lines, with shares that differ."""
    parts, n = [], 2 * (DIM + 2 * coils * DIM)
    for k, (mask, further) in enumerate(PAIRS):
        for level in sigma_n:
            pair = [operator(m, coils, level, n) for m in (mask, further)]
            first, second = pair if wrap is None else (wrap(o.sigma_n, o.mask, o.maps) for o in pair)
            parts.append(Part(first, second, (1 + k) / sum(range(1, len(PAIRS) + 1)) / len(sigma_n)))
    return ExactSample(cov, SHAPE, parts, sigma)


class OtherWeights(AmbientTweedie, kind="test-closed-form-mri"):
    """The same objective with seven times the weight on what is not shown."""

    def whitened(self, residual: Tensor, further: Operator, sigma: Tensor, c: Tensor, prior: Prior) -> Tensor:
        found = super().whitened(residual, further, sigma, c, prior)
        return found + (7**0.5 - 1) * (found - further.restrict(found))


class Coloured(AmbientTweedie, kind="test-coloured"):
    """The same objective with the weights of images that are not white."""

    def whitened(self, residual: Tensor, further: Operator, sigma: Tensor, c: Tensor, prior: Prior) -> Tensor:
        return super().whitened(residual, further, sigma, c, Prior.stationary((4.0, 0.3), *SHAPE[1:]))


def own_gradient(sample: ExactSample, objective: AmbientTweedie | Standard, weight: Tensor) -> Tensor:
    """The gradient of the expected loss at the matrices of all lines, `[lines, d, d]`."""
    at = torch.stack([index_of(shown(mask)[None])[0] for mask in ALL])
    return gradient(lambda point: sample.loss(objective, point), weight)[at]


@pytest.mark.parametrize("coils", [1, 2])
@pytest.mark.parametrize(
    ("sigma_n", "sigma"), [((0.0,), 0.7), ((0.3,), 0.35), ((0.3,), 1.5), ((0.0, 0.4), 0.6)], ids=str
)
def test_one_denoiser_for_all_lines(coils: int, sigma_n: tuple[float, ...], sigma: float) -> None:
    """Noise-free and noisy, whatever the weights: E[x | A~^H (A~ x + s eps)] is where the gradient vanishes."""
    cov = covariance(DIM)
    sample, best = sample_of(cov, coils, sigma_n, sigma), optimal(cov, coils, sigma)
    for objective in (AmbientTweedie(), AmbientTweedie(c_min=1.0), OtherWeights(), Coloured()):
        assert own_gradient(sample, objective, best).abs().max() < 1e-9
        assert (own_gradient(sample, objective, 0.9 * best).flatten(1).abs().amax(1) > 1e-4).all()
        assert sample.loss(objective, 0.9 * best) > sample.loss(objective, best) + 1e-4
        assert sample.loss(objective, 1.1 * best) > sample.loss(objective, best) + 1e-4
    if sigma_n != (0.0,):
        assert own_gradient(sample, Standard(), best).abs().max() > 1e-3


class NoiseOfImages(MriOperator):
    """The noise that is added is white on the image grid, where `extract(e)` is white, and seen through `A^H A`."""

    def noise(self, e: Tensor) -> Tensor:
        return self.seen(self.extract(e))

    def measured(self, e: Tensor) -> Tensor:
        return self.predicted(self.extract(e))


@pytest.mark.parametrize("coils", [1, 2])
def test_why_noise_is_drawn_in_k_space(coils: int) -> None:
    """Noise of the image grid agrees with that of one coil, and with none of several: another minimiser then."""
    cov, sigma = covariance(DIM), 0.7
    found = own_gradient(
        sample_of(cov, coils, (0.3,), sigma, NoiseOfImages), AmbientTweedie(), optimal(cov, coils, sigma)
    )
    assert (found.abs().max() < 1e-9) == (coils == 1)


def test_without_further_lines_nothing_is_learned_of_the_others() -> None:
    """Shown all that was measured, the loss does not depend on what D says of frequencies that were not."""
    cov, sigma = covariance(DIM), 0.7
    n = 2 * (DIM + 2 * DIM)
    parts = [Part(operator(mask, 1, n=n), operator(mask, 1, n=n), 1 / len(ALL)) for mask in ALL]
    sample, best = ExactSample(cov, SHAPE, parts, sigma), optimal(cov, 1, sigma)
    blind = best.clone()
    for mask in ALL:
        index = int(index_of(shown(mask)[None]))
        blind[index] = matrix_of(operator(mask, 1, n=DIM).seen, SHAPE) @ best[index]
    assert (blind - best).abs().max() > 0.1
    torch.testing.assert_close(sample.loss(AmbientTweedie(), blind), sample.loss(AmbientTweedie(), best))


def phase_two(coils: int, level: float, sigma_n: float = 0.0, prior: Prior | None = None) -> PhaseTwo:
    rows = 2 * (DIM + 4 * coils * DIM)
    pairs = [Operator.concatenate([operator(pair[k], coils, sigma_n, rows) for pair in PAIRS]) for k in range(2)]
    return PhaseTwo(pairs[0], pairs[1], rows, SHAPE, (2 * coils, *SHAPE[1:]), level, prior)


LOSSES: list[DistillationLoss] = [SiD(alpha=1.0), SiD(alpha=1.2), DMD()]


@pytest.mark.parametrize("coils", [1, 2])
@pytest.mark.parametrize("loss", LOSSES, ids=["sid-1", "sid-1.2", "dmd"])
@pytest.mark.parametrize("prior", [None, Prior.stationary((4.0, 0.3), *SHAPE[1:])], ids=["white", "stationary"])
def test_generator_rests_where_it_has_the_datas_law(prior: Prior | None, loss: DistillationLoss, coils: int) -> None:
    """Whatever its loss weighs more."""
    cov, level = covariance(DIM), 0.7
    root = torch.linalg.cholesky(cov)
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(2), dtype=F64))[0]
    two, teacher = phase_two(coils, level, prior=prior), optimal(cov, coils, level)
    for factor in (root, root @ rotation):
        own = optimal(factor @ factor.T, coils, level)
        assert two.generator_gradient(factor, teacher, own, loss).abs().max() < 1e-10
    for factor in (0.9 * root, torch.diag(cov.diag().sqrt())):
        own = optimal(factor @ factor.T, coils, level)
        assert two.generator_gradient(factor, teacher, own, loss).abs().max() > 1e-3


@pytest.mark.parametrize("coils", [1, 2])
@pytest.mark.parametrize("sigma_n", [0.0, 0.4])
def test_fake_score_rests_at_the_generators_posterior_mean(coils: int, sigma_n: float) -> None:
    cov, level = covariance(DIM, seed=4), 0.7
    two, best = phase_two(coils, level, sigma_n), optimal(cov, coils, level)
    factor = torch.linalg.cholesky(cov)
    assert two.fake_gradient(factor, best, SiD()).abs().max() < 1e-9
    assert two.fake_gradient(factor, 1.1 * best, SiD()).abs().max() > 1e-4


class Optimal(ClosedForm):
    """The optimal denoiser at any level for images of which all of k-space is measured."""

    def __init__(self, cov: Tensor, coils: int) -> None:
        super().__init__()
        self.cov, self.coils = cov, coils

    def denoised(self, given: Noisy) -> Tensor:
        matrix = posterior_mean(self.cov, ALL[-1], self.coils, float(torch.as_tensor(given.sigma).flatten()[0]))
        return (given.x_t.flatten(1) @ matrix.T).view_as(given.x_t)


@pytest.mark.parametrize("coils", [1, 2])
def test_samplers_state_lies_in_k_space_and_ends_with_the_datas_law(coils: int) -> None:
    """Heun is linear here: its matrix W on white noise of k-space has W W^T = C, to the error of 120 steps."""
    cov, white = covariance(DIM), (2 * coils, *SHAPE[1:])
    count = torch.Size(white).numel()
    one = operator(ALL[-1], coils, n=count)
    images = matrix_of(lambda e: Heun(num_steps=120)(Optimal(cov, coils), e, one), white)
    torch.testing.assert_close(images @ images.T, cov, rtol=0, atol=5e-3)
    drawn = matrix_of(lambda e: OneStep(init_sigma=2.0)(Optimal(cov, coils), e, one), white)
    step = posterior_mean(cov, ALL[-1], coils, 2.0)
    torch.testing.assert_close(drawn @ drawn.T, 4 * step @ step.T)


def test_held_out_lines_are_learned() -> None:
    """One coil: a denoiser that is right on the lines that it is shown, and 0 on the others, has a gradient."""
    cov, sigma = covariance(DIM), 0.7
    sample, best = sample_of(cov, 1, (0.0, 0.3), sigma), optimal(cov, 1, sigma)
    blind = best.clone()
    for mask in ALL:
        index = int(index_of(shown(mask)[None]))
        blind[index] = matrix_of(operator(mask, 1, n=DIM).seen, SHAPE) @ best[index]
    found = own_gradient(sample, AmbientTweedie(), blind).flatten(1).abs().amax(1)
    assert (found[:-1] > 1e-4).all() and found[-1] < 1e-9  # nothing is held out where all is shown


@pytest.mark.parametrize("coils", [1, 2])
def test_noise_of_lines_that_are_not_shown_is_in_no_loss(coils: int) -> None:
    """Nor is noise in the input there: what is drawn for them may be anything. That of shown lines matters."""
    generator = torch.Generator().manual_seed(0)
    first, second = operator(lines(0, 1, 2), coils, 0.3), operator(lines(0, 1), coils, 0.3)
    y = torch.randn(1, 2 * coils, *SHAPE[1:], generator=generator, dtype=F64)
    draw = AmbientTweedie().draw(first, (2 * coils, *SHAPE[1:]), generator)
    draw = draw._replace(sigma=torch.full((1,), 0.8, dtype=F64), noise=draw.noise.double())
    other = torch.where(second.mask, draw.noise, draw.noise + 5)
    denoiser = Optimal(covariance(DIM), coils)

    def loss(noise: Tensor) -> float:
        return float(AmbientTweedie()(denoiser, y, first, second, draw._replace(noise=noise)))

    assert loss(other) == pytest.approx(loss(draw.noise), rel=1e-12)
    assert abs(loss(torch.where(second.mask, draw.noise + 1, draw.noise)) / loss(draw.noise) - 1) > 1e-3
