r"""Distillation losses: pure functions that compare the teacher's and the fake score on the generator's output.

All take `u` (the re-corrupted generated images on the image grid, which carry the generator's graph),
`x_t = u + s n`, `a` (the teacher's denoised images), `b` (the fake score's) and `s`, all `[n, C, H, W]` but `s` `[n]`,
and return `[n]`. Only their gradient means anything: watch the score gap `||a - b||` instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

from torch import Tensor

from ..core.kinds import Described, OfKind
from ..core.settings import setting
from ..core.tensors import right_broadcast


def per_sample_scale(u: Tensor, a: Tensor, minimum: float = 1e-5) -> Tensor:
    """`w = stopgrad(mean |u - a|)` per sample, at least `minimum`, `[n, 1, 1, 1]` (DMD, eq. 8)."""
    w = (u - a).detach().abs().flatten(1).mean(1).clamp_min(minimum)
    return right_broadcast(w, u)


def gradient_on(u: Tensor, gradient: Tensor) -> Tensor:
    """A loss `[n]` whose gradient in `u` is `gradient / d`, `d` the number of entries of a sample."""
    return (u * gradient.detach()).flatten(1).mean(1)


class DistillationLoss(Described, ABC, family="loss"):
    """A distillation loss: a class that says its `kind`, its settings as fields, and `__call__`.

    Attributes:
        uses_fake: whether the loss uses `b`; if not, no fake score is trained.
        through_networks: whether `a` and `b` must be differentiable in `x_t`; if not, they have no graph.
    """

    section = "student.loss"
    uses_fake: ClassVar[bool] = True
    through_networks: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
        """Loss of each sample `[n]`, the mean over its entries."""


class SiD(DistillationLoss, kind="sid"):
    r"""Score identity Distillation: :math:`(a - b)((a - u) - \alpha (a - b)) / w` (SiD, eq. 23; RSD, eq. 8).

    At the optimal fake score its expectation is :math:`(1-\alpha)` times a Fisher divergence, negative for
    :math:`\alpha > 1`.
    """

    alpha: float = setting(1.2, "share of the score gap that is subtracted; above 1, a working loss is negative")
    through_networks: ClassVar[bool] = True

    def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
        gap = a - b
        return (gap * ((a - u) - self.alpha * gap) / per_sample_scale(u, a)).flatten(1).mean(1)


class DMD(DistillationLoss, kind="dmd"):
    """Distribution Matching Distillation: gradient `(b - a) / w` on `u`, none through the networks (DMD, eq. 7)."""

    def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
        return gradient_on(u, (b - a) / per_sample_scale(u, a))


class SDS(DistillationLoss, kind="sds"):
    r"""Score Distillation Sampling: gradient :math:`\hat n - n = (u - a) / s`, the teacher alone (DreamFusion, eq. 3).

    Mode-seeking: for Gaussian data the generator collapses to the mean. A baseline.
    """

    uses_fake: ClassVar[bool] = False

    def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
        return gradient_on(u, (u - a) / right_broadcast(sigma, u))


AnyLoss = Annotated[DistillationLoss, OfKind(DistillationLoss, otherwise=SiD.kind)]
"""For a section's field: a distillation loss, by its kind and its settings."""
