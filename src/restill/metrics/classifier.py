"""Features of a small classifier that was trained on the labelled clean reference.

For data far from ImageNet (digits, scans) this says more than Inception features do, and it needs no download. The
classifier is trained WITHOUT noise augmentation: one that has learned to ignore noise would be blind to the noise that
a denoiser left behind. Weights can depend on the number of threads and the processor in the last digits, so save the
classifier and load it wherever numbers are to be compared; its fingerprint is kept beside every result.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..core.errors import NonFiniteError, UserError
from ..core.files import replacing, write_json
from ..core.progress import Advance, silent
from ..core.reading import read_json
from ..core.tensors import mix_seed, seeded
from .features import Features, check_images, state_fingerprint

DIM = 64
FORMAT = "restill-classifier/1"
_CHUNK = 512


class ClassifierFeatures(Features):
    """The penultimate layer (64 features) of a trained classifier. Made by `train_classifier` or `load_classifier`.

    Attributes:
        shape: of one image, `(C, H, W)`.
        classes: number of classes.
        accuracy: share of held-out clean images that it classifies correctly.
        seed: that it was trained with.
        steps: of training.
    """

    name = "classifier"
    dim = DIM
    resize = "none"
    shows = (
        "Classifier features see whether images belong to the classes of the clean reference. They see noise too, "
        "because the classifier was trained without it. They are blind to everything the classes do not depend on."
    )

    def __init__(
        self, network: nn.Sequential, shape: tuple[int, int, int], classes: int, accuracy: float, seed: int, steps: int
    ) -> None:
        self._network = network.eval().requires_grad_(False)
        self.shape = shape
        self.classes = classes
        self.accuracy = accuracy
        self.seed = seed
        self.steps = steps
        self.fingerprint = state_fingerprint(network.state_dict())

    def __call__(self, images: Tensor) -> Tensor:
        """Features float32 `[n, 64]` of images `[n, C, H, W]` in normalised units, on the classifier's device."""
        check_images(images, self.shape, self.name)
        return self._apply(self._network[:-1], images)

    def logits(self, images: Tensor) -> Tensor:
        """Unnormalised log-probabilities float32 `[n, classes]` of images `[n, C, H, W]`."""
        check_images(images, self.shape, self.name)
        return self._apply(self._network, images)

    def logits_of(self, features: Tensor) -> Tensor:
        """Logits float32 `[n, classes]` of features `[n, 64]` that were taken before, on any device."""
        with torch.no_grad():
            logits: Tensor = self._network[-1](features.float().to(next(self._network.parameters()).device))
        return logits

    def _apply(self, network: nn.Module, images: Tensor) -> Tensor:
        device = next(self._network.parameters()).device
        with torch.no_grad():
            return torch.cat([network(chunk.to(device, torch.float32)) for chunk in images.split(_CHUNK)])

    def to(self, device: torch.device | str) -> ClassifierFeatures:
        """Move the classifier; returns itself."""
        self._network.to(device)
        return self

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, each atomically."""
        weights = {name: value.cpu().contiguous() for name, value in self._network.state_dict().items()}
        with replacing(folder / "model.safetensors") as temporary:
            temporary.write_bytes(save(weights))
        config = {
            "format": FORMAT, "shape": list(self.shape), "classes": self.classes, "accuracy": self.accuracy,
            "seed": self.seed, "steps": self.steps, "fingerprint": self.fingerprint,
        }  # fmt: skip
        write_json(folder / "config.json", config)


def load_classifier(folder: Path) -> ClassifierFeatures:
    """The classifier that `ClassifierFeatures.save` wrote; nothing that is loaded is executed.

    Raises:
        UserError: a file is missing, is no classifier of restill, or the weights are not those that were saved.
    """
    config, weights = read_json(folder / "config.json"), folder / "model.safetensors"
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"{folder / 'config.json'}: is not a restill classifier (format {FORMAT!r})")
    if not weights.is_file():
        raise UserError(f"{weights}: no such file")
    try:
        channels, height, width = (int(size) for size in config["shape"])
        network = _build((channels, height, width), int(config["classes"]), seed=0)
        network.load_state_dict(load_file(weights), strict=True)
        features = ClassifierFeatures(
            network, (channels, height, width), int(config["classes"]), float(config["accuracy"]),
            int(config["seed"]), int(config["steps"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder}: the classifier cannot be loaded ({type(error).__name__}: {reason})") from error
    if features.fingerprint != config.get("fingerprint"):
        raise UserError(f"{weights}: do not match config.json; train the classifier again")
    return features


def train_classifier(
    images: Tensor,
    labels: Tensor,
    seed: int = 0,
    steps: int = 400,
    batch_size: int = 128,
    held_out: float = 0.1,
    advance: Advance = silent,
) -> ClassifierFeatures:
    """Train a classifier on clean images. Deterministic on the CPU; leaves torch's global random state alone.

    Args:
        images: clean images `[n, C, H, W]` in normalised units, H and W at least 8; training runs on their device.
        labels: classes from 0, integers `[n]`.
        seed: of the initial weights, the split and the batches.
        steps: of AdamW, with a learning rate that falls from 2e-3 to 0 along a cosine.
        held_out: share of the images that is not trained on and gives `accuracy`.
        advance: told of every step.

    Raises:
        UserError: images or labels that cannot be used.
        NonFiniteError: the loss is no longer finite.
    """
    shape, classes = _check_training(images, labels, steps)
    order = torch.randperm(len(images), generator=seeded("classifier-split", seed)).to(images.device)
    test, train = order[: max(1, round(held_out * len(images)))], order[max(1, round(held_out * len(images))) :]
    labels = labels.to(images.device, torch.int64)
    network = _build(shape, classes, seed).to(images.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = seeded("classifier-batches", seed)
    for step in range(steps):
        batch = train[torch.randint(len(train), (batch_size,), generator=generator).to(images.device)]
        loss = F.cross_entropy(network(images[batch].float()), labels[batch])
        if not bool(torch.isfinite(loss)):
            raise NonFiniteError(f"the classifier's loss is {loss.item()} at step {step + 1} of {steps}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        advance(done=1)
    features = ClassifierFeatures(network, shape, classes, 0.0, seed, steps)
    features.accuracy = float((features.logits(images[test]).argmax(dim=1) == labels[test]).double().mean())
    return features


def _check_training(images: Tensor, labels: Tensor, steps: int) -> tuple[tuple[int, int, int], int]:
    if images.ndim != 4 or min(images.shape[2:]) < 8 or not images.is_floating_point():
        raise UserError(f"a classifier needs real images [n, C, H, W] of at least 8 by 8, not {list(images.shape)}")
    if labels.shape != images.shape[:1] or labels.is_floating_point() or len(labels) < 10 or int(labels.min()) < 0:
        raise UserError("a classifier needs at least 10 images, each with an integer label from 0")
    if steps < 1:
        raise UserError(f"a classifier needs at least one step of training, not {steps}")
    if not bool(torch.isfinite(images).all()):
        raise UserError("a classifier cannot be trained on images with NaN or infinite values")
    return (images.shape[1], images.shape[2], images.shape[3]), int(labels.max()) + 1


def _build(shape: tuple[int, int, int], classes: int, seed: int) -> nn.Sequential:
    """Strided convolutions down to less than 8 pixels, 64 features, classes. Draws from its own random state."""
    channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mix_seed("classifier-weights", seed))
        layers: list[nn.Module] = [*_block(channels, 32, stride=1)]
        channels = 32
        while max(height, width) >= 8:
            layers += [*_block(channels, DIM, stride=2), *_block(DIM, DIM, stride=1)]
            channels, height, width = DIM, -(-height // 2), -(-width // 2)
        layers += [nn.Flatten(), nn.Linear(DIM * height * width, DIM), nn.SiLU(), nn.Linear(DIM, classes)]
    return nn.Sequential(*layers)


def _block(channels: int, out: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out, 3, stride=stride, padding=1), nn.GroupNorm(8, out), nn.SiLU()
