"""One network in training: its optimiser, its averages, and the refusal to continue from a NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Generic, Literal

import torch
from torch import Tensor

from ..core.errors import NonFiniteError, UserError
from ..core.modules import module_state, prefixed, restore_module, under
from ..core.processes import ALONE, Processes
from ..core.settings import Section, setting
from .ema import Averaging, Module


class Adam(Section):
    """Adam (all published settings use it), its learning rate over images, and gradient clipping."""

    lr: float = setting(1e-4, "learning rate after the warm-up", gt=0)
    beta1: float = setting(0.9, "decay of the mean of the gradients", ge=0, lt=1)
    beta2: float = setting(0.999, "decay of the mean of their squares", ge=0, lt=1)
    warmup_images: int = setting(0, "warm-up, over which the learning rate rises from 0", unit="images", ge=0)
    decay: Literal["none", "cosine", "linear"] = setting("none", "decay of the learning rate until the end")
    final: float = setting(0.0, "factor on the learning rate at the end of its decay", ge=0, le=1)
    grad_clip: float | None = setting(None, "largest norm of a gradient; null sets no limit", gt=0)

    def rate(self, images_seen: int, total: int) -> float:
        """Learning rate of a step that begins after `images_seen` of the `total` images of the training."""
        factor = min(1.0, images_seen / self.warmup_images) if self.warmup_images else 1.0
        if self.decay != "none" and total > self.warmup_images:
            done = min(1.0, max(0.0, (images_seen - self.warmup_images) / (total - self.warmup_images)))
            shape = (1 + math.cos(math.pi * done)) / 2 if self.decay == "cosine" else 1 - done
            factor *= self.final + (1 - self.final) * shape
        return self.lr * factor


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


class Update(Generic[Module]):
    """Applies gradients to a module and averages its weights: the one place where the gradient of a batch is complete.

    If several processes each accumulate the gradient of a mean over an equal share of a batch, `measure` combines them
    to the gradient of the whole batch. Trainings still run in one process: nothing shares out the batch and its random
    numbers, or chooses the process that logs and saves.

    Args:
        module: its parameters are trained.
        adam: the settings of its optimiser.
        images: length of the training, where a decay of the learning rate ends.
        guard: watches each gradient norm.
        processes: each has a share of the batch.
        averages: of the weights, by their names in a state.
        name, optimiser_name: of the weights and of Adam's moments in a state.
    """

    def __init__(
        self,
        module: Module,
        adam: Adam,
        images: int,
        guard: FiniteGuard,
        processes: Processes = ALONE,
        *,
        averages: Mapping[str, Averaging[Module]] | None = None,
        name: str = "module",
        optimiser_name: str = "optimiser",
    ) -> None:
        self.module, self.adam, self.images, self.guard, self.processes = module, adam, images, guard, processes
        self.averages, self.name, self.optimiser_name = dict(averages or {}), name, optimiser_name
        self.parameters = list(module.parameters())
        self._norm = torch.zeros(())
        self.optimiser = torch.optim.Adam(self.parameters, lr=adam.lr, betas=(adam.beta1, adam.beta2), fused=True)

    def measure(self, step: int) -> Tensor:
        """Norm of the gradients of all processes, 0-dimensional; watched by the guard. Touches no weight."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.processes.average_(gradients)
        self._norm = torch.nn.utils.get_total_norm(gradients)
        self.guard.watch(self._norm, step)
        return self._norm

    def apply(self, images_seen: int, batch_size: int) -> None:
        """One step of optimiser and averages, from the gradients that were measured; these are then cleared.

        Args:
            images_seen: before this step.
            batch_size: images of this step.
        """
        if self.adam.grad_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.adam.grad_clip, self._norm)
        for group in self.optimiser.param_groups:
            group["lr"] = self.adam.rate(images_seen, self.images)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        for average in self.averages.values():
            average.update(self.module, batch_size, images_seen)

    def moments(self) -> dict[str, Tensor]:
        """Adam's moments and step count, by parameter name."""
        state = self.optimiser.state
        names = dict(self.module.named_parameters())
        return {f"{key}.{name}": value for name, p in names.items() for key, value in state[p].items()}

    def state(self) -> dict[str, Tensor]:
        """Weights, averages and moments as plain tensors."""
        state = prefixed(self.name, module_state(self.module)) | prefixed(self.optimiser_name, self.moments())
        for key, average in self.averages.items():
            state |= prefixed(key, module_state(average.module))
        return state

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from `state()`. An optional average that is missing is dropped."""
        restore_module(self.module, under(self.name, tensors))
        self.averages = {key: a for key, a in self.averages.items() if a.required or under(key, tensors)}
        for key, average in self.averages.items():
            restore_module(average.module, under(key, tensors))
        moments = under(self.optimiser_name, tensors)
        for name, parameter in self.module.named_parameters():
            self.optimiser.state[parameter] = {
                key: _like(moments[f"{key}.{name}"], parameter)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in moments
            }


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy of `value` on the parameter's device and, if it is of its shape, in its memory format."""
    if value.shape not in (parameter.shape, ()):
        raise UserError(f"the optimiser's tensor has shape {list(value.shape)}, not {list(parameter.shape)}")
    if value.shape != parameter.shape:  # the number of steps
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter).copy_(value)
