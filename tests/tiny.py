"""Small stores, networks and recipes with which whole trainings take seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restill.acquisition import corrupt_images
from restill.corruption import AdditiveNoise, Corruption
from restill.diffusion import NetworkDenoiser
from restill.diffusion.networks import build_network
from restill.io import array_source
from restill.runs.recipe_files import Recipe, recipe_from
from restill.store import Store

RECIPE = """\
name: tiny
data: {source: digits}
corruption: {kind: noise, sigma_n: 0.4}
network: {model_channels: 16, channel_mult: [1], num_blocks: 1, attn_resolutions: [], dropout: 0.1}
teacher: {images: 2560, batch_size: 32, adam: {lr: 1e-3}, ema: {halflife_images: 500}}
student: {images: 1920, batch_size: 32, alpha: 1.0, select_every: 320, select_samples: 64}
sampling: {batch_size: 64, show: 16, num_steps: 4}
evaluation: {samples: 64, seeds: [0], classifier: false}
execution: {checkpoint_every_s: 0.3, log_every: 5}
"""

SETTINGS = [  # what makes any shipped recipe as small as the one above
    "network.model_channels=16", "network.channel_mult=[1]", "network.num_blocks=1", "network.attn_resolutions=[]",
    "teacher.images=48", "teacher.batch_size=16", "teacher.adam.lr=1e-3", "teacher.adam.warmup_images=0",
    "student.images=48", "student.batch_size=16", "student.select_every=32", "student.select_samples=32",
    "sampling.num_steps=3", "sampling.batch_size=32", "sampling.show=9",
    "evaluation.samples=32", "evaluation.classifier=false",
]  # fmt: skip


def settings(*more: str) -> list[str]:
    """`SETTINGS` and more as options of the command line."""
    return [word for setting in (*SETTINGS, *more) for word in ("--set", setting)]


def images(n: int, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> np.ndarray:
    """Smooth pictures `[n, C, H, W]`, uint8: two waves with random phases."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    phase = rng.uniform(0, 2 * np.pi, (2, n, channels, 1, 1))
    rows, columns = np.arange(height)[:, None] / height, np.arange(width) / width
    waves = np.sin(2 * np.pi * rows + phase[0]) + np.sin(2 * np.pi * columns + phase[1])
    return (127.5 + 60 * waves).round().astype(np.uint8)


def tiny_store(
    folder: Path,
    law: Corruption | None = None,
    n: int = 48,
    shape: tuple[int, int, int] = (1, 8, 8),
    classes: int = 0,
) -> Store:
    """A store of `n` corrupted pictures."""
    labels = [i % classes for i in range(n)] if classes else None
    source = array_source(images(n, shape), layout="NCHW", labels=labels)
    return corrupt_images(source, law or AdditiveNoise(sigma_n=0.3), folder, None, seed=0)


def tiny_denoiser(
    channels: int = 1, condition: int = 0, classes: int = 0, dropout: float = 0.0, augment: bool = False, size: int = 8
) -> NetworkDenoiser:
    """A network of a few thousand weights, none of them zero: all matter from the first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build_network(
            "EDMPrecond",
            {
                "img_resolution": size,
                "img_channels": channels + condition,
                "label_dim": classes,
                "model_type": "SongUNet",
                "model_channels": 16,
                "channel_mult": [1],
                "num_blocks": 1,
                "attn_resolutions": [],
                "dropout": dropout,
                "augment_dim": 9 if augment else 0,
            },
        )
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
    return NetworkDenoiser(net, channels, 0.5, classes)


def tiny_recipe(**sections: object) -> Recipe:
    """A checked recipe from sections."""
    return recipe_from({"name": "tiny", "data": {"source": "digits"}, **sections})


def different(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are not bit-equal, or not in both."""
    names = a.keys() ^ b.keys()
    return sorted(names | {name for name in a.keys() & b.keys() if not torch.equal(a[name], b[name])})
