"""The best student so far, kept during its distillation without a clean image (RSD, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..checkpoint import NetworkConfig, save_network
from ..core.tensors import mix_seed
from ..generator import Generator
from ..metrics import Estimate, Proximal
from ..training import Distillation, Progress


class BestStudent:
    """Keeps the averaged student of the smallest proximal Fréchet distance.

    The student is measured every `select_every` images and at the end, always with the same latents.

    Args:
        folder: of the network that is kept.
        training: the distillation; its settings say how often to measure, and on how many images.
        config: of the student.
        proximal: the distance, to the measurements.
        seed: of the run.
        batch_size: of the drawing.
        log: takes a row for each measurement.
    """

    def __init__(
        self,
        folder: Path,
        training: Distillation,
        config: NetworkConfig,
        proximal: Proximal,
        *,
        seed: int,
        batch_size: int,
        log: Callable[[dict[str, Any]], None],
    ) -> None:
        self.folder, self.training, self.config, self.proximal = folder, training, config, proximal
        settings = training.settings
        self.every, self.samples = max(1, settings.select_every // settings.batch_size), settings.select_samples
        self.log = log
        self.seed = mix_seed("selection", seed)
        self.generator = Generator(training.ema.module, config, batch_size=batch_size)

    def distance(self) -> Estimate:
        """Proximal Fréchet distance of the averaged student as it is now."""
        return self.proximal(self.generator.sample(self.samples, self.seed), self.seed)

    def __call__(self, progress: Progress, best: dict[str, Any]) -> dict[str, Any]:
        """After a step: measures the student when that is due, keeps it if it is the best; returns the best so far."""
        if progress.step % self.every and progress.step != self.training.steps:
            return best
        self.training.guard.check()  # reports a NaN of the training before the features do
        value, std, _ = self.distance()
        row = {"stage": "student", "step": progress.step, "images": progress.images, "proximal_frechet": value}
        self.log(row | {"proximal_frechet_std": std})
        if best and value >= best["proximal_frechet"]:
            return best
        self._keep()
        return {"step": progress.step, "proximal_frechet": value}

    def again(self, best: dict[str, Any]) -> None:
        """Keep the student once more where its network is gone; only as long as the training is where it was best."""
        there = all((self.folder / name).exists() for name in ("model.safetensors", "config.json"))
        if best and best["step"] == self.training.step and not there:
            self._keep()

    def _keep(self) -> None:
        config = self.config.model_copy(update={"images_seen": self.training.images_seen})
        save_network(self.folder, self.training.ema.module, config)
