"""Phase II: the student, distilled from the frozen teacher through the same corruption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pydantic import model_validator
from torch import Tensor

from ..core.modules import module_state, restore_module
from ..core.settings import setting
from ..core.tensors import right_broadcast, seeded
from ..corruption import Corruption
from ..diffusion import Denoiser
from ..objectives import AnyLoss, GeneratorLevels, Objective, SiD
from .ema import EMA, frozen_copy
from .posthoc import TRACKED, PowerEMA
from .state import PhaseSettings, Training, prefixed, under
from .update import Adam, FiniteGuard, Update


class DistillationSettings(PhaseSettings):
    """Phase II."""

    section = "student"
    loss: AnyLoss = setting(SiD(), "loss of the generator")
    init_sigma: float = setting(2.5, "noise level at which the generator D(init_sigma z; init_sigma) starts", gt=0)
    tmax: int = setting(800, "highest noise level of the generator's update, in thousandths of the grid", gt=0, le=1000)
    images: int = setting(100_000_000, "length of the distillation, counted in generated images", unit="images", gt=0)
    batch_size: int = setting(256, "images in an iteration", unit="images", gt=0)
    generator: Adam = setting(Adam(lr=1e-5, beta1=0.0), "optimiser of the generator")
    fake: Adam = setting(Adam(lr=1e-5, beta1=0.0), "optimiser of the fake score")
    loss_scale: float = setting(100.0, "factor on the generator's loss; it matters only relative to Adam's eps", gt=0)
    share_samples: bool = setting(True, "whether the fake score learns from the images of the generator's update")
    fake_steps: int = setting(1, "updates of the fake score for each update of the generator", gt=0)
    select_every: int = setting(500_000, "images between two proximal Frechet distances", unit="images", gt=0)
    select_samples: int = setting(10_000, "images for the proximal Frechet distance", unit="images", gt=0)
    snapshots: int = setting(16, "snapshots of the averaged weights, for `restill select`", ge=0)

    @model_validator(mode="before")
    @classmethod
    def _old_keys(cls, data: Any) -> Any:
        return loss_in_one_place(data)

    @property
    def power_ema(self) -> tuple[float, ...]:
        """`sigma_rel` of the averages from which those of other lengths follow after the run (`posthoc.py`)."""
        return TRACKED if self.snapshots else ()


def loss_in_one_place(student: Any) -> Any:
    """The keys of a student whose `alpha` stands beside `loss`, as it once did, with it inside; it counts for SiD."""
    if not isinstance(student, Mapping) or "alpha" not in student:
        return student
    loss = student.get("loss", {})
    loss = {"kind": loss} if isinstance(loss, str) else loss
    if isinstance(loss, Mapping) and loss.get("kind", SiD.kind) == SiD.kind:
        loss = {**loss, "alpha": student["alpha"]}
    return {key: value for key, value in student.items() if key != "alpha"} | {"loss": loss}


class Generated(NamedTuple):
    """Generated images with the labels they were drawn for."""

    images: Tensor
    labels: Tensor | None


class Distillation(Training):
    """Distils a frozen teacher into a one-step generator (RSD, algorithm 1).

    One iteration updates the generator and the fake score once each. The generator, the fake score and the average all
    start from the teacher. Randomness of iteration `k` is a function of `seed` and `k`.

    Args:
        teacher: the trained denoiser; it is copied, frozen, and never changed.
        corruption: that of the measurements, through which every generated image goes.
        shape: of an image, `(C, H, W)`.
        objective: of the fake score; the teacher's own (another one diverges).
    """

    def __init__(
        self,
        teacher: Denoiser,
        corruption: Corruption,
        shape: tuple[int, ...],
        settings: DistillationSettings,
        objective: Objective,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__(settings.images, settings.batch_size)
        self.corruption, self.shape, self.settings, self.seed, self.device = corruption, shape, settings, seed, device
        self.objective, self.levels = objective, GeneratorLevels(settings.tmax)
        self.teacher = frozen_copy(teacher)
        # dropout stays off: the generator is a deterministic map of z, and the fake score is compared with the teacher
        self.student = frozen_copy(teacher).requires_grad_(True)
        self.fake = frozen_copy(teacher).requires_grad_(True)
        self.guard = FiniteGuard(device)
        self.ema = EMA(self.student, settings.ema)
        self.powers = tuple(PowerEMA(self.student, sigma_rel) for sigma_rel in settings.power_ema)
        self.student_update = Update(self.student, settings.generator, settings.images, self.guard)
        self.fake_update = Update(self.fake, settings.fake, settings.images, self.guard)

    def advance(self) -> dict[str, Tensor]:
        """One iteration; returns values to log, 0-dimensional. Both gradients are checked before either is applied."""
        generator = seeded("distillation", self.seed, self.step, device=self.device)
        parts, log = self._student_gradients(generator)
        log["grad_norm"] = self.student_update.measure(self.step)
        if self.settings.loss.uses_fake:
            shared = parts if self.settings.share_samples else self._fresh(generator)
            log["fake_loss"], log["fake_grad_norm"] = self._fit_fake(shared, generator)
            for _ in range(self.settings.fake_steps - 1):
                self._fit_fake(self._fresh(generator), generator)
        self.student_update.apply(log["grad_norm"], self.images_seen)
        self.ema.update(self.student, self.batch_size, self.images_seen)
        self.step += 1
        for power in self.powers:
            power.update(self.student, self.step)
        return log

    def _student_gradients(self, generator: torch.Generator) -> tuple[list[Generated], dict[str, Tensor]]:
        """The generator's gradient, summed over the parts of a batch: their images, and means to log."""
        parts, rows = [], []
        for _ in range(self.settings.accumulate):
            part = self.generate(generator)
            rows.append(self.student_gradient(part, generator))
            parts.append(Generated(part.images.detach(), part.labels))
        return parts, {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}

    def _fresh(self, generator: torch.Generator) -> list[Generated]:
        """A batch of new images without a graph, in parts."""
        with torch.no_grad():
            return [self.generate(generator) for _ in range(self.settings.accumulate)]

    def _fit_fake(self, parts: list[Generated], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One update of the fake score: loss and norm of the gradient."""
        loss = torch.stack([self.fake_gradient(part, generator) for part in parts]).mean()
        norm = self.fake_update.measure(self.step)
        self.fake_update.apply(norm, self.images_seen)
        return loss, norm

    def generate(self, generator: torch.Generator) -> Generated:
        """One part of a batch of `x_g = G(z)`, with the student's graph where gradients are enabled."""
        n, device = self.batch_size // self.settings.accumulate, self.device
        shape = self.corruption.shapes(self.shape).white
        z = torch.randn(n, *shape, generator=generator, device=device)
        labels = None
        if self.teacher.num_classes:
            labels = torch.randint(self.teacher.num_classes, (n,), generator=generator, device=device)
        shown = self.corruption.further(self.corruption.draw(n, self.shape, generator), generator)
        sigma = torch.full((n,), self.settings.init_sigma, device=device)
        start = self.student.start(z, self.settings.init_sigma, shown)
        return Generated(self.student.image(start, sigma, shown, labels), labels)

    def student_gradient(self, generated: Generated, generator: torch.Generator) -> dict[str, Tensor]:
        """Gradient of the generator: teacher against fake score on `u = A(x_g)`, to which no sigma_n noise is added."""
        settings, labels, n = self.settings, generated.labels, len(generated.images)
        operator = self.corruption.draw(n, self.shape, generator)
        further = self.corruption.further(operator, generator)
        observed = operator.apply(generated.images)
        shown = further.to_domain(further.restrict(observed))
        sigma = self.levels.draw(n, generator)
        white = operator.noise_shape(tuple(shown.shape[1:]))
        noise = torch.randn(n, *white, generator=generator, device=self.device)
        x_t = shown + further.noise(right_broadcast(sigma, noise) * noise)
        prior = self.teacher.prior
        u = prior.balanced(operator.observed(observed))

        def compared(denoiser: Denoiser) -> Tensor:
            return prior.balanced(operator.predicted(denoiser(x_t, sigma, further, labels)))

        self.fake.requires_grad_(False)
        with torch.set_grad_enabled(settings.loss.through_networks):
            a = compared(self.teacher)
            b = compared(self.fake) if settings.loss.uses_fake else a.detach()
        self.fake.requires_grad_(True)
        loss = settings.loss(u, x_t, a, b, sigma).mean()
        (loss * (settings.loss_scale / settings.accumulate)).backward()
        self.guard.watch(loss.detach(), self.step)
        gap = (a.detach() - b.detach()).flatten(1).norm(dim=1).mean()
        return {"loss": loss.detach(), "score_gap": gap}

    def fake_gradient(self, generated: Generated, generator: torch.Generator) -> Tensor:
        """Gradient of the fake score: the phase-I objective on freshly re-corrupted generated images."""
        objective, images = self.objective, generated.images.detach()
        operator = self.corruption.draw(len(images), self.shape, generator)
        y = self.corruption.corrupt(images, operator, generator)
        further = self.corruption.further(operator, generator)
        draw = objective.draw(operator.to_domain(y), operator, generator)
        loss = objective(self.fake, y, operator, further, draw, generated.labels).mean()
        (loss / self.settings.accumulate).backward()
        self.guard.watch(loss.detach(), self.step)
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        powers = {_prefix(power): module_state(power.module) for power in self.powers}
        return (
            prefixed("student", module_state(self.student))
            | prefixed("ema", module_state(self.ema.module))
            | prefixed("fake", module_state(self.fake))
            | prefixed("student_optimiser", self.student_update.state())
            | prefixed("fake_optimiser", self.fake_update.state())
            | prefixed("means", self.means.state())
            | {name: value for key, state in powers.items() for name, value in prefixed(key, state).items()}
        )

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        restore_module(self.student, under("student", tensors))
        restore_module(self.ema.module, under("ema", tensors))
        restore_module(self.fake, under("fake", tensors))
        self.student_update.restore(under("student_optimiser", tensors))
        self.fake_update.restore(under("fake_optimiser", tensors))
        self.means.restore(under("means", tensors), self.device)
        # a state from before there were power averages continues without: an average cannot begin midway
        self.powers = tuple(power for power in self.powers if under(_prefix(power), tensors))
        for power in self.powers:
            restore_module(power.module, under(_prefix(power), tensors))
        self.step = step


def _prefix(power: PowerEMA[Denoiser]) -> str:
    return f"power-{power.sigma_rel:g}"
