"""A distillation loss from outside the package."""

import torch.nn.functional as F
from torch import Tensor

from restill.core.settings import setting
from restill.objectives import DistillationLoss


class Huber(DistillationLoss, kind="huber"):
    """Pulls `u` along the score gap, with a bounded force."""

    delta: float = setting(0.5, "size of the gap beyond which the force is constant", gt=0)

    def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
        target = (u + a - b).detach()
        return F.huber_loss(u, target, reduction="none", delta=self.delta).flatten(1).mean(1)
