"""Operators as a user writes them, outside the package: how few lines they take, and domains of other channels."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from restill.core.errors import UserError
from restill.corruption import (
    AsMeasured,
    CompleteOperator,
    CustomCorruption,
    Linear,
    MaskingOperator,
    Operator,
    PixelOperator,
    WhiteInDomain,
    WithoutGaps,
)
from restill.diffusion import NetworkDenoiser, Noisy
from restill.objectives import AmbientTweedie, Draw
from restill.sampling import Heun, OneStep
from restill.training import Batches, TeacherSettings, TeacherTraining
from tiny import images, tiny_denoiser, tiny_store

F64 = torch.float64


@dataclass(frozen=True)
class Dead(MaskingOperator):
    mask: Tensor

    def restrict(self, y: Tensor) -> Tensor:
        return self.mask.to(y) * y

    def condition(self) -> Tensor:
        return self.mask


@dataclass(frozen=True)
class Smear(CompleteOperator):
    def apply(self, x: Tensor) -> Tensor:
        return (x + x.roll(1, -1)) / 2

    def adjoint(self, y: Tensor) -> Tensor:
        return (y + y.roll(-1, -1)) / 2


class DeadPixels(CustomCorruption, kind="test-dead-pixels"):
    share: float = 0.1

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Dead:
        return Dead(self.draw_sigma_n(n, generator), torch.rand(n, 1, *shape[1:], generator=generator) > self.share)

    def further(self, operator: Operator, generator: torch.Generator) -> Operator:
        fewer = torch.rand(operator.condition().shape, generator=generator) > self.share
        return dataclasses.replace(operator, mask=operator.condition() & fewer)


class Smeared(CustomCorruption, WithoutGaps, kind="test-smeared"):
    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Smear:
        return Smear(self.draw_sigma_n(n, generator))


@dataclass(frozen=True)
class Vignette(PixelOperator):
    """Brightness that differs from pixel to pixel, some of which are dead."""

    shown: ClassVar[tuple[str, ...]] = ("alive",)
    gain: Tensor
    alive: Tensor

    def apply(self, x: Tensor) -> Tensor:
        return self.restrict(self.gain.to(x) * x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.gain.to(y) * self.restrict(y)

    def restrict(self, y: Tensor) -> Tensor:
        return self.alive.to(y) * y

    def condition(self) -> Tensor:
        return self.alive


@dataclass(frozen=True)
class Grey(Linear, AsMeasured, WhiteInDomain):
    """A grey camera with dead pixels, of images in colour: the domain has one channel, images have three."""

    mask: Tensor

    def apply(self, x: Tensor) -> Tensor:
        return self.restrict(self.project(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.lift(self.restrict(y)) / 3

    def restrict(self, y: Tensor) -> Tensor:
        return self.mask.to(y) * y

    def condition(self) -> Tensor:
        return self.mask

    def lift(self, d: Tensor) -> Tensor:
        return d.expand(-1, 3, -1, -1)

    def project(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def mask() -> Tensor:
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.6


def test_lines_of_an_operator() -> None:
    """The numbers of docs/architecture.md: an operator and the corruption that draws it, with their decorators."""
    for kinds, count in (((Dead, DeadPixels), 14), ((Smear, Smeared), 9)):
        assert sum(bool(line.strip()) for kind in kinds for line in inspect.getsource(kind).splitlines()) == count


@pytest.mark.parametrize("corruption", [DeadPixels(sigma_n=0.2), Smeared(sigma_n=0.2)], ids=lambda law: law.kind)
def test_such_a_corruption_is_corrupted_with_and_learned(corruption: CustomCorruption, tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "y", corruption)
    denoiser, settings = tiny_denoiser(condition=corruption.shapes((1, 8, 8)).condition), TeacherSettings(batch_size=16)
    batches = Batches(store, 16, 0, torch.device("cpu"))
    training = TeacherTraining(denoiser, batches, corruption, settings, AmbientTweedie(), 0)
    assert 0.05 < float(training.advance()["loss"]) < 100
    y, clean = store.batch(torch.arange(48)).y, torch.from_numpy(images(48)).float() / 127.5 - 1
    assert isinstance(store.batch(torch.arange(4)).operator, (Dead, Smear))
    expected = store.batch(torch.arange(48)).operator.apply(clean)
    assert abs(float((y - expected)[y != 0].std()) - 0.2) < 0.02  # of some 3,000 numbers


@pytest.mark.parametrize("masked", [True, False])
def test_what_follows_of_a_few_methods(masked: bool) -> None:
    sigma_n, shown, x, y = torch.full((4,), 0.2), mask(), normal(4, 1, 8, 8), normal(4, 1, 8, 8, seed=2)
    operator = Vignette(sigma_n, 1 + torch.rand(4, 1, 8, 8), shown) if masked else Smear(sigma_n)
    torch.testing.assert_close((operator.apply(x) * y).sum(), (x * operator.vjp(x, y)).sum())
    seen = torch.where(shown, x, 0) if masked else x
    for found in (operator.seen(x), operator.noise(x), operator.predicted(x), operator.to_image(x)):
        assert torch.equal(found, seen)
    missing = operator.missing(x)
    assert missing is None if not masked else torch.equal(missing, ~shown)
    torch.testing.assert_close(operator.restrict(operator.whole().apply(x)), operator.apply(x))
    moved = operator.moved(lambda image: image.flip(-1))
    assert torch.equal(moved.seen(x.flip(-1)), seen.flip(-1))
    assert set(operator.select(slice(0, 2)).parameters()) == ({"sigma_n", "gain", "alive"} if masked else {"sigma_n"})


def test_a_domain_of_other_channels_than_the_image() -> None:
    """Loss and images are those by hand; where a pixel is dead, all three channels of the network's image are free."""
    operator, sigma = Grey(torch.zeros(4), mask()), torch.full((4,), 0.7, dtype=F64)
    small = tiny_denoiser(channels=3, condition=1)
    denoiser = NetworkDenoiser(small.net, 3, masked=True).double().requires_grad_(False)
    d = operator.seen(normal(4, 1, 8, 8))
    image = denoiser.image(Noisy(d, sigma, operator))
    assert image.shape == (4, 3, 8, 8)
    torch.testing.assert_close(denoiser(d, sigma, operator), image.mean(1, keepdim=True))
    x_in = torch.cat([d.expand(-1, 3, -1, -1) / (0.49 + 0.25) ** 0.5, operator.mask.to(F64)], dim=1)
    out = denoiser.net.model(x_in, sigma.log() / 4, None, None)[:, :3]
    edm = 0.25 / 0.74 * d + 0.35 / 0.74**0.5 * out
    torch.testing.assert_close(image, torch.where(operator.mask, edm, 0.5 * out))
    y, noise = operator.apply(normal(4, 3, 8, 8, seed=3)), normal(4, 1, 8, 8, seed=4)
    loss = AmbientTweedie()(denoiser, y, operator, operator, Draw(sigma, noise))
    residual = operator.mask * (denoiser(y + operator.mask * 0.7 * noise, sigma, operator) - y)
    torch.testing.assert_close(loss, residual.square().flatten(1).mean(1) * (1 / 0.49 + 1 / 0.25))
    z = normal(4, 1, 8, 8, seed=5)
    start = operator.mask * 2.5 * z
    one_step = OneStep()(denoiser, z, operator)
    torch.testing.assert_close(one_step, denoiser.image(Noisy(start, 2.5, operator)))
    assert Heun(num_steps=2)(denoiser, z, operator).shape == (4, 1, 8, 8)


def test_what_does_not_lie_in_the_domain_is_not_moved() -> None:
    from custom_corruptions import RandomLines

    lines = RandomLines().draw(2, (2, 8, 8), torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=r"teacher\.augment must be 0: measurements by FourierMaskOperator"):
        lines.moved(lambda image: image.flip(-1))
