"""One network's optimiser: learning rate, clipping, and the refusal to continue from a NaN."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core.errors import NonFiniteError
from .schedule import LearningRate


@dataclass(frozen=True)
class OptimiserSettings:
    """Adam (all published settings use it).

    Attributes:
        lr: learning rate over images.
        betas, eps: Adam's.
        grad_clip: gradients of a larger norm are scaled down to it; None for no clipping.
    """

    lr: LearningRate = field(default_factory=lambda: LearningRate(1e-4))
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    grad_clip: float | None = None


class FiniteGuard:
    """Watches values for NaN and infinity, without a host synchronisation per step where that costs.

    On the CPU `watch` raises at once, before the weights are touched. Elsewhere the first bad step stays on the device
    and `check` raises; callers call it before every log line and every checkpoint, so no checkpoint holds a NaN.
    """

    def __init__(self, device: torch.device) -> None:
        self.immediate = device.type == "cpu"
        self.first = torch.full((), -1, dtype=torch.long, device=device)

    def watch(self, value: Tensor, step: int) -> None:
        """Look at a 0-dimensional value of a step."""
        bad = ~value.isfinite() & (self.first < 0)
        self.first = torch.where(bad, step, self.first)
        if self.immediate:
            self.check()

    def check(self) -> None:
        """Raises NonFiniteError, naming the step, if a watched value was not finite."""
        step = int(self.first)
        if step >= 0:
            raise NonFiniteError(f"the loss or a gradient became NaN or infinite at step {step}")


class Update:
    """Applies gradients to a module.

    Args:
        module: the network; its parameters are trained.
        settings: optimiser settings.
        guard: watches each gradient norm.
    """

    def __init__(self, module: nn.Module, settings: OptimiserSettings, guard: FiniteGuard) -> None:
        self.module, self.settings, self.guard = module, settings, guard
        self.parameters = list(module.parameters())
        self.optimiser = torch.optim.Adam(
            self.parameters, lr=settings.lr.peak, betas=settings.betas, eps=settings.eps, fused=True
        )

    def measure(self, step: int) -> Tensor:
        """Norm of the accumulated gradients, 0-dimensional; watched by the guard. Touches no weight."""
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        self.guard.watch(norm, step)
        return norm

    def apply(self, norm: Tensor, images_seen: int) -> None:
        """One optimiser step from the accumulated gradients of the given norm, which are then cleared."""
        if self.settings.grad_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.settings.grad_clip, norm)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.lr.at(images_seen)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step count, by parameter name."""
        state = self.optimiser.state
        names = dict(self.module.named_parameters())
        return {f"{key}.{name}": value for name, p in names.items() for key, value in state[p].items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from `state()`."""
        for name, parameter in self.module.named_parameters():
            self.optimiser.state[parameter] = {
                key: _like(tensors[f"{key}.{name}"], parameter)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in tensors
            }


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy of `value` on the parameter's device and, if it is of its shape, in its memory format."""
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter).copy_(value)
