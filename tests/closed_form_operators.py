"""Tools for exact checks of the library's own operators: every mask with its probability, linear maps conditional on
the mask, and the two updates of `Distillation` on samples with exact moments.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from closed_form import whitened
from restill.corruption import CustomCorruption, Operator
from restill.diffusion import ClosedForm, Noisy, Prior
from restill.objectives import AmbientTweedie, AnyLoss, DistillationLoss, Draw, Objective
from restill.objectives.distillation_losses import per_sample_scale
from restill.training import Distillation, DistillationSettings, FakeScore, distillation
from restill.training.players import Generated, Iteration

F64 = torch.float64


def matrix_of(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear map of images `[n, *shape]`."""
    dim = torch.Size(shape).numel()
    return function(torch.eye(dim, dtype=F64).view(dim, *shape)).flatten(1).T


def posterior_mean(cov: Tensor, shown: Tensor, sigma: float) -> Tensor:
    """`E[x | P (x + s n)] = C P (P (C + s^2) P)^+` with `P = diag(shown)`, as a matrix on `P (x + s n)`."""
    projection = torch.diag(shown.flatten().to(F64))
    noisy = cov + sigma**2 * torch.eye(len(cov), dtype=F64)
    return cov @ projection @ torch.linalg.pinv(projection @ noisy @ projection, rtol=1e-10, hermitian=True)


def all_masks(shape: tuple[int, int, int], per_channel: bool = False) -> list[Tensor]:
    """All masks bool `[C, H, W]`; of all channels alike unless `per_channel`."""
    drawn = shape if per_channel else (1, *shape[1:])
    bits = itertools.product((False, True), repeat=torch.Size(drawn).numel())
    return [torch.tensor(row).view(drawn).expand(shape).clone() for row in bits]


class Shown(NamedTuple):
    """A mask, the further mask that the network is shown, and the probability of both."""

    mask: Tensor
    further: Tensor
    probability: float


def bernoulli_pairs(shape: tuple[int, int, int], p: float, delta: float, per_channel: bool = False) -> list[Shown]:
    """All pairs of the law of single pixels, by its definition: missing with `p`, taken away further with `delta`."""
    pairs = []
    channels = 1 if not per_channel else shape[0]
    for mask, further in itertools.product(all_masks(shape, per_channel), repeat=2):
        if (further <= mask).all():
            missing, shown = int((~mask[:channels]).sum()), int(further[:channels].sum())
            taken = channels * shape[1] * shape[2] - missing - shown
            pairs.append(
                Shown(mask, further, p**missing * (1 - p) ** (taken + shown) * delta**taken * (1 - delta) ** shown)
            )
    assert abs(sum(pair.probability for pair in pairs) - 1) < 1e-12
    return pairs


def index_of(mask: Tensor) -> Tensor:
    """A number `[n]` for each mask bool `[n, ...]`."""
    bits = mask.flatten(1).long()
    return (bits << torch.arange(bits.shape[1])).sum(1)


class ConditionalLinear(ClosedForm):
    """`D = K_m x_t` with a matrix for every mask `m`: `[2^d, d, d]`; the first one where there are no masks."""

    def __init__(self, weight: Tensor, prior: Prior | None = None) -> None:
        super().__init__(prior)
        self.weight = weight

    def denoised(self, given: Noisy) -> Tensor:
        x_t, operator = given.x_t, given.operator
        condition = None if operator is None else operator.condition()
        chosen = torch.zeros(len(x_t), dtype=torch.long) if condition is None else index_of(condition)
        return torch.einsum("nij,nj->ni", self.weight[chosen], x_t.flatten(1)).view_as(x_t)


def table(matrix: Callable[[Tensor], Tensor], masks: Iterable[Tensor]) -> Tensor:
    """Matrices `[2^d, d, d]` of `ConditionalLinear`; zero for masks that are not listed."""
    found = {int(index_of(mask[None])): matrix(mask) for mask in masks}
    size = 2 ** next(iter(found.values())).shape[0]
    weight = torch.zeros(size, *next(iter(found.values())).shape, dtype=F64)
    for index, value in found.items():
        weight[index] = value
    return weight


class Part(NamedTuple):
    """Equal operators of one batch, the further ones, and how much the batch counts."""

    operator: Operator
    further: Operator
    share: float = 1.0


class ExactSample:
    """Measurements of `x ~ N(0, C)` by several parts, with exact moments of (x, eps, n): all expectations are exact."""

    def __init__(self, cov: Tensor, shape: tuple[int, ...], parts: Sequence[Part], sigma: float) -> None:
        ys, noises, shares = [], [], []
        for part in parts:
            n = len(part.operator)
            zero = torch.zeros(n, *shape, dtype=F64)
            measured = part.operator.apply(zero)
            domain = part.operator.to_domain(measured)
            white = tuple(part.operator.embed(domain).shape)
            sizes = [len(cov), measured[0].numel(), torch.Size(white[1:]).numel()]
            x, eps, noise = whitened(n, sum(sizes), seed=0).split(sizes, dim=1)
            clean = part.operator.apply((x @ torch.linalg.cholesky(cov).T).view_as(zero))
            level = part.operator.sigma_n.double().view(-1, 1, 1, 1)
            ys.append(part.operator.restrict(clean + level * eps.reshape(measured.shape)))
            noises.append(noise.reshape(white))
            shares.append(torch.full((n,), part.share / n, dtype=F64))
        self.y, noise, self.share = torch.cat(ys), torch.cat(noises), torch.cat(shares)
        self.operator = Operator.concatenate([part.operator for part in parts])
        self.further = Operator.concatenate([part.further for part in parts])
        self.draw = Draw(torch.full((len(self.y),), sigma, dtype=F64), noise)

    def loss(self, objective: Objective, weight: Tensor, prior: Prior | None = None) -> Tensor:
        """The expected loss of a linear denoiser, conditional on the mask where there is one."""
        values = objective(ConditionalLinear(weight, prior), self.y, self.operator, self.further, self.draw)
        return (self.share * values).sum()


class Listed(CustomCorruption):
    """Always draws the operators that it was given."""

    operator: Any
    shown: Any

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Operator:
        drawn: Operator = self.operator
        return drawn

    def further(self, operator: Operator, generator: torch.Generator) -> Operator:
        shown: Operator = self.shown
        return shown


@contextmanager
def at_level(level: float) -> Iterator[None]:
    """Within it the generator is updated at one level."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "generator_levels", lambda n, *_: torch.full((n,), level, dtype=F64))
        yield


class FitAt(AmbientTweedie, kind="test-fit-at"):
    """Ambient Tweedie at one level."""

    level: float = 1.0

    def draw_levels(self, minimum_N: Tensor, generator: torch.Generator) -> Tensor:
        assert (minimum_N <= self.level).all()
        return torch.full_like(minimum_N, self.level, dtype=F64)


class Unscaled(DistillationLoss, kind="test-unscaled"):
    """A loss times its own scale `w`: quadratic, so that exact moments give its exact expectation."""

    loss: AnyLoss
    through_networks = True

    def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
        return self.loss(u, x_t, a, b, sigma) * per_sample_scale(u, a).flatten()


class PhaseTwo:
    """`Distillation` itself, with closed forms for its networks and exact samples for its random numbers.

    Args:
        operator, further: one batch of all operators, each `rows` times in a row.
        rows: how often each comes.
        shape, domain: of images and of white noise, which is that of the domain unless the operator has another.
        level: of the generator's update and of the fake score's.
        prior: that the networks suppose of images; white by default.
    """

    def __init__(
        self,
        operator: Operator,
        further: Operator,
        rows: int,
        shape: tuple[int, ...],
        domain: tuple[int, ...],
        level: float,
        prior: Prior | None = None,
    ) -> None:
        self.prior = prior
        self.n, self.rows, self.shape, self.domain, self.level = len(operator), rows, shape, domain, level
        self.law = Listed(operator=operator, shown=further)
        self.measured = operator.apply(torch.zeros(self.n, *shape, dtype=F64)).shape

    @staticmethod
    def _iteration() -> Iteration:
        return Iteration(0, torch.Generator(), [None])

    def _score(self, teacher: Tensor, fake: Tensor, loss: DistillationLoss) -> FakeScore:
        settings = DistillationSettings(
            images=self.n,
            batch_size=self.n,
            loss=loss,
            loss_scale=1.0,
            snapshots=0,
        )
        network = ConditionalLinear(nn.Parameter(teacher), self.prior)
        objective, cpu = FitAt(level=self.level), torch.device("cpu")
        made = Distillation(network, self.law, self.shape, settings, objective, 0, cpu)
        score = made.players["fake"]
        assert isinstance(score, FakeScore)
        score.module = ConditionalLinear(nn.Parameter(fake), self.prior)
        vars(score.game)["white"] = tuple(self.domain)  # `Listed` draws as many as it has, whatever it is asked for
        return score

    def exact(self, *shapes: Sequence[int]) -> list[Tensor]:
        """Tensors `[n, *shape]` of which all have together exact moments, for each operator."""
        sizes = [torch.Size(shape).numel() for shape in shapes]
        found = whitened(self.rows, sum(sizes), seed=1).repeat(self.n // self.rows, 1).split(sizes, dim=1)
        return [part.reshape(self.n, *shape) for part, shape in zip(found, shapes, strict=True)]

    def _images(self, factor: Tensor, z: Tensor) -> Generated:
        return Generated((z.flatten(1) @ factor.T).view(self.n, *self.shape), None, None)

    def generator_gradient(self, factor: Tensor, teacher: Tensor, fake: Tensor, loss: DistillationLoss) -> Tensor:
        """Gradient in `W` of the generator's loss, `x_g = W z`, by `FakeScore.term`."""
        z, noise = self.exact(self.shape, self.domain)
        point = factor.detach().clone().requires_grad_()
        score = self._score(teacher, fake, loss)
        with drawn(noise), at_level(self.level):
            score.term(self._images(point, z), self._iteration()).value.backward()
        assert point.grad is not None
        return point.grad

    def fake_gradient(self, factor: Tensor, fake: Tensor, loss: DistillationLoss) -> Tensor:
        """Gradient in the fake score's matrices, by `FakeScore.loss`."""
        z, eps, noise = self.exact(self.shape, self.measured[1:], self.domain)
        score = self._score(fake, fake, loss)
        with drawn(eps, noise):
            score.loss(self._images(factor, z), self._iteration()).value.backward()
        gradient = score.module.get_parameter("weight").grad
        assert gradient is not None
        return gradient


class drawn:
    """Within it `torch.randn` returns the given tensors, in turn and no others."""

    def __init__(self, *values: Tensor) -> None:
        self.values, self.patch = list(values), pytest.MonkeyPatch()

    def __enter__(self) -> None:
        self.patch.setattr(torch, "randn", self._next)

    def _next(self, *shape: int | Sequence[int], **_: object) -> Tensor:
        value = self.values.pop(0)
        assert tuple(value.shape) == torch.Size(shape[0] if isinstance(shape[0], Sequence) else shape)
        return value

    def __exit__(self, kind: object, *_: object) -> None:
        self.patch.undo()
        assert kind is not None or not self.values
