"""Averages that are made after a run are those that would have been kept during it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

import restill.training.settings
from restill.checkpoint import load_state, save_state
from restill.core.errors import UserError
from restill.core.modules import module_state
from restill.corruption import AdditiveNoise
from restill.objectives import AmbientTweedie
from restill.training import Adam, Average, Distillation, DistillationSettings
from restill.training.posthoc import (
    TRACKED,
    PowerEMA,
    combine,
    gamma_of,
    inner_products,
    profile_error,
    sigma_rel_of,
)
from tiny import different, tiny_denoiser

CPU = torch.device("cpu")
SNAPSHOTS = 16  # as shipped
WIDTHS = (0.03, 0.07, 0.15, 0.2)
UNIFORM = 12**-0.5


def profile(time: float, sigma_rel: float) -> tuple[float, float]:
    return time, sigma_rel


def density(at: float, time: float, sigma_rel: float) -> float:
    """The profile as the paper writes it."""
    gamma = gamma_of(sigma_rel)
    return (gamma + 1) * at**gamma / time ** (gamma + 1) if at <= time else 0.0


# profiles


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.2, 0.28, UNIFORM])
def test_sigma_rel_is_the_standard_deviation_of_the_profile(sigma_rel: float) -> None:
    moments = [quad(lambda x, k=k: x**k * density(x, 1.0, sigma_rel), 0, 1, epsabs=1e-13)[0] for k in range(3)]
    assert moments[0] == pytest.approx(1, abs=1e-9)
    assert moments[2] - moments[1] ** 2 == pytest.approx(sigma_rel**2, rel=1e-6)
    assert sigma_rel_of(gamma_of(sigma_rel)) == pytest.approx(sigma_rel, rel=1e-9)


def test_published_exponents() -> None:
    assert TRACKED == (0.05, 0.10)  # EDM2, section 3.2
    """EDM2, section 3.1: gamma is 6.94 for 10% and 16.97 for 5%."""
    assert (round(gamma_of(0.10), 2), round(gamma_of(0.05), 2)) == (6.94, 16.97)


@pytest.mark.parametrize("sigma_rel", [0.0, -0.1, 0.29, 1.0, float("nan")])
def test_impossible_widths_are_refused(sigma_rel: float) -> None:
    with pytest.raises(UserError, match=r"sigma_rel must be above 0 and at most 0.2886"):
        gamma_of(sigma_rel)


def test_inner_products_are_integrals() -> None:
    first = [profile(3.0, 0.05), profile(7.5, 0.2), profile(10.0, 0.01)]
    second = [profile(3.0, 0.1), profile(9.0, 0.05), profile(2.0, 0.28)]
    products = inner_products(first, second)
    assert products.shape == (3, 3) and products.dtype == torch.float64
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            end = min(a[0], b[0])
            integral, _ = quad(lambda x, a=a, b=b: density(x, *a) * density(x, *b), 0, end, points=[0.9 * end])
            assert products[i, j].item() == pytest.approx(integral, rel=1e-7), (a, b)


# least squares


def evenly(number: int, end: float) -> list[tuple[float, float]]:
    return [profile(end * k / number, width) for k in range(1, number + 1) for width in TRACKED]


@pytest.mark.parametrize("number", [1, 3, SNAPSHOTS, 64])
@pytest.mark.parametrize("width", [0.01, *WIDTHS, 0.25])
def test_the_weights_are_the_constrained_least_squares(number: int, width: float) -> None:
    snapshots, target = evenly(number, 1e6), profile(1e6, width)
    weights = combine(snapshots, target)
    assert weights.dtype == torch.float64 and weights.sum().item() == pytest.approx(1, abs=1e-10)
    least = profile_error(snapshots, weights, target)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):  # no other weights of the same sum come nearer
        change = torch.randn(len(weights), generator=generator, dtype=torch.float64)
        change -= change.mean()
        for size in (1e-3, 1e-1):
            assert profile_error(snapshots, weights + size * change, target) > least


def test_the_error_is_that_of_the_profiles() -> None:
    snapshots, target = evenly(3, 6.0), profile(6.0, 0.2)
    weights = combine(snapshots, target)

    def squared(x: float) -> float:
        mixed = sum(w * density(x, *s) for w, s in zip(weights.tolist(), snapshots, strict=True))
        return (mixed - density(x, *target)) ** 2

    parts = [quad(squared, low, low + 2, epsrel=1e-9)[0] for low in (0, 2, 4)]
    whole = quad(lambda x: density(x, *target) ** 2, 0, 6)[0]
    assert profile_error(snapshots, weights, target) == pytest.approx((sum(parts) / whole) ** 0.5, rel=1e-6)


def test_a_snapshot_is_made_of_itself() -> None:
    snapshots = evenly(SNAPSHOTS, 750.0)
    for k, snapshot in enumerate(snapshots):
        expected = torch.zeros(len(snapshots), dtype=torch.float64)
        expected[k] = 1
        torch.testing.assert_close(combine(snapshots, snapshot), expected, rtol=0, atol=1e-9)


def test_later_snapshots_have_no_weight() -> None:
    snapshots = evenly(SNAPSHOTS, 16.0)
    weights = combine(snapshots, profile(7.0, 0.15))
    assert bool((weights[14:] == 0).all()) and bool((weights[:14] != 0).all())
    assert torch.equal(weights[:14], combine(snapshots[:14], profile(7.0, 0.15)))


def test_what_has_no_snapshot_is_refused() -> None:
    for snapshots in ([], [profile(5.0, 0.1)]):
        with pytest.raises(UserError, match="there is no snapshot up to 4 images"):
            combine(snapshots, profile(4.0, 0.1))
    with pytest.raises(UserError, match="the time of an average must be positive, not 0"):
        combine([profile(0.0, 0.1)], profile(4.0, 0.1))


# averages of weights


def direct(trajectory: Tensor, time: int, sigma_rel: float) -> Tensor:
    """The average of weights `[T, d]` by its definition: the profile integrated over each step."""
    edges = (torch.arange(time + 1, dtype=torch.float64) / time) ** (gamma_of(sigma_rel) + 1)
    return edges.diff() @ trajectory[:time]


def trajectories(steps: int) -> dict[str, Tensor]:
    """Weights of norm about 1 that move by about a fifth of it, in three ways, float64 `[steps, 500]`."""
    rng = np.random.default_rng(0)
    start, way = (rng.normal(size=(1, 500)) / 500**0.5 for _ in range(2))
    time = np.arange(1, steps + 1)[:, None] / steps
    walk = rng.normal(size=(steps, 500)).cumsum(axis=0) / (500 * steps) ** 0.5
    relaxation = (1 - np.exp(-3 * time)) * way
    paths = {"walk": walk, "relaxation": relaxation, "both": walk + relaxation}
    return {name: torch.from_numpy(start + 0.2 * path) for name, path in paths.items()}


@pytest.mark.parametrize("sigma_rel", [0.01, 0.1, UNIFORM])
def test_the_recursion_is_the_integral(sigma_rel: float) -> None:
    trajectory = trajectories(200)["both"]
    module = torch.nn.Linear(500, 1, bias=False, dtype=torch.float64)
    power = PowerEMA(module, sigma_rel)
    for step, weights in enumerate(trajectory, start=1):
        module.weight.data[0] = weights
        power.update(module, 10, 10 * (step - 1))
    torch.testing.assert_close(power.module.weight[0], direct(trajectory, 200, sigma_rel), rtol=0, atol=1e-13)
    assert not power.module.weight.requires_grad
    if sigma_rel == UNIFORM:
        torch.testing.assert_close(power.module.weight[0], trajectory.mean(dim=0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["walk", "relaxation", "both"])
@pytest.mark.parametrize("width", WIDTHS)
def test_combined_averages_are_those_that_were_kept(name: str, width: float) -> None:
    """Measured: at most 3e-4 of the weights, for a random walk at sigma_rel 0.03."""
    steps = 750
    trajectory = trajectories(steps)[name]
    times = [round(k * steps / SNAPSHOTS) for k in range(1, SNAPSHOTS + 1)]
    snapshots = [profile(time, tracked) for time in times for tracked in TRACKED]
    stored = torch.stack([direct(trajectory, int(time), tracked).float() for time, tracked in snapshots])
    wanted = direct(trajectory, steps, width)
    error = (combine(snapshots, profile(steps, width)) @ stored.double() - wanted).norm()
    assert error < 1e-3 * wanted.norm()
    assert error < 0.1 * min((row - wanted).norm() for row in stored[-2:].double())  # than the nearest one kept


def distillation(steps: int, *power_ema: float) -> Distillation:
    adam, average = Adam(lr=1e-3), Average(halflife_images=50)
    settings = DistillationSettings(
        images=16 * steps, batch_size=16, generator=adam, fake=adam, ema=average, snapshots=16 if power_ema else 0
    )
    law = AdditiveNoise(sigma_n=0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restill.training.settings, "TRACKED", power_ema)
        return Distillation(tiny_denoiser(), law, (1, 8, 8), settings, AmbientTweedie(), seed=3, device=CPU)


def flat(module: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().double() for p in module.parameters()])


def test_the_averages_of_a_training() -> None:
    steps = 64
    training = distillation(steps, *TRACKED, *WIDTHS)
    start = flat(training.generator.module)
    snapshots, stored = [], []
    for step in range(1, steps + 1):
        training.advance()
        if step % (steps // SNAPSHOTS) == 0:
            for power in training.generator.powers[:2]:
                snapshots.append(profile(training.images_seen, power.sigma_rel))
                stored.append(flat(power.module))
    assert len(snapshots) == 2 * SNAPSHOTS
    for power in training.generator.powers[2:]:
        kept, target = flat(power.module), profile(training.images_seen, power.sigma_rel)
        error = (combine(snapshots, target) @ torch.stack(stored) - kept).norm()
        assert (kept - start).norm() > 0.01 * kept.norm()  # the training did move the weights
        assert error < 1e-3 * kept.norm() and error < 0.02 * (kept - start).norm()


# as part of a training's state


def test_a_continued_training_has_the_same_averages(tmp_path: Path) -> None:
    whole, first, second, without = (distillation(8, *powers) for powers in (TRACKED, TRACKED, TRACKED, ()))
    for _ in range(8):
        whole.advance()
        without.advance()
    for _ in range(5):
        first.advance()
    save_state(tmp_path / "state.safetensors", first.state(), {})
    second.restore(load_state(tmp_path / "state.safetensors")[0], 5)
    for _ in range(3):
        second.advance()
    end = whole.state()
    assert different(end, second.state()) == []
    powers = {name for name in end if name.startswith("power-")}
    assert {name.split("/")[0] for name in powers} == {"power-0.05", "power-0.1"}
    assert len(powers) == 2 * len(module_state(whole.generator.module))
    # they change nothing else
    assert set(different(end, without.state())) == powers


def test_a_state_from_before_there_were_averages_continues_without() -> None:
    old, new, whole = distillation(4), distillation(4, *TRACKED), distillation(4)
    for _ in range(2):
        old.advance()
    new.restore({name: value.clone() for name, value in old.state().items()}, 2)
    for _ in range(2):
        new.advance()
    for _ in range(4):
        whole.advance()
    assert new.generator.powers == [] and different(new.state(), whole.state()) == []
