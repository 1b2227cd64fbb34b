"""Denoisers, objectives and losses that keep what they are given, so that tests can look at a training from inside."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from restill.corruption import Operator
from restill.diffusion import Denoiser, Noisy, Prior
from restill.objectives import AmbientTweedie, DistillationLoss, Draw

Said = tuple[Denoiser, Noisy, Tensor]


class Listening(Denoiser):
    """`D(x_t; s) = x_t + picture`, with a picture that is trained, and one for each class; keeps all calls.

    Copies share the list, in which each call names the module that was called.

    Args:
        shape: of an image `(C, H, W)`.
        classes: number of classes.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int = 0, prior: Prior | None = None) -> None:
        super().__init__()
        self.calls: list[Said] = _Shared()
        self.num_classes, self._prior = classes, prior or Prior.white(0.5)
        self.picture = nn.Parameter(0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        self.of_class = nn.Parameter(torch.zeros(max(classes, 1), *shape))

    @property
    def prior(self) -> Prior:
        return self._prior

    def denoised(self, given: Noisy) -> Tensor:
        image = self.image(given)
        return image if given.operator is None else given.operator.project(image)

    def image(self, given: Noisy) -> Tensor:
        lifted = given.x_t if given.operator is None else given.operator.lift(given.x_t)
        labels = torch.zeros(len(lifted), dtype=torch.int64) if given.labels is None else given.labels
        image = 0.1 * lifted + self.picture + self.of_class[labels]
        self.calls.append((self, given, image.detach()))
        return image


class _Shared(list[Said]):
    """A list that a deep copy of its owner keeps."""

    def __deepcopy__(self, memo: object) -> _Shared:
        return self


class Compared(NamedTuple):
    """The arguments of a distillation loss."""

    u: Tensor
    x_t: Tensor
    a: Tensor
    b: Tensor
    sigma: Tensor


class ListeningLoss(DistillationLoss):
    """DMD without its scale; keeps its arguments."""

    seen: ClassVar[list[Compared]] = []

    def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
        self.seen.append(Compared(*(value.detach().clone() for value in (u, x_t, a, b, sigma))))
        return (u * (b - a).detach()).flatten(1).mean(1)


class Asked(NamedTuple):
    """The arguments of a denoising objective, whether the denoiser was training, and torch's global seed."""

    denoiser: Denoiser
    y: Tensor
    operator: Operator
    further: Operator
    draw: Draw
    labels: Tensor | None
    augment: Tensor | None
    training: bool
    seed: int


class ListeningObjective(AmbientTweedie):
    """Ambient Tweedie; keeps its arguments."""

    seen: ClassVar[list[Asked]] = []

    def __call__(
        self,
        denoiser: Denoiser,
        y: Tensor,
        operator: Operator,
        further: Operator,
        draw: Draw,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        where = denoiser.training, torch.initial_seed()
        self.seen.append(Asked(denoiser, y, operator, further, draw, labels, augment, *where))
        return super().__call__(denoiser, y, operator, further, draw, labels, augment)
