"""restill: one-step generators of clean images, learned from corrupted measurements only.

The names below are the library; each is imported when it is first used, so that `import restill` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .core.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from .acquisition import corrupt_images, import_kspace, import_measurements
    from .core.errors import UserError
    from .corruption import (
        AdditiveNoise,
        Blur,
        Compose,
        Corruption,
        Downsampling,
        Function,
        Identity,
        Mask,
        Mri,
        Operator,
        Poisson,
        corruption_from,
        load_operator,
        register_operator,
    )
    from .diffusion import Denoiser
    from .diffusion.networks import build_network
    from .generator import Generator, load_denoiser, load_generator
    from .io import digits, open_images, open_kspace, open_masks, phantoms
    from .objectives import DMD, SDS, AmbientTweedie, DistillationLoss, Objective, SiD, Standard
    from .runs import run
    from .sampling import Heun, OneStep, Sampler, generate
    from .store import Store, open_store
    from .training import Batches, Distillation, DistillationSettings, TeacherSettings, TeacherTraining

_HOMES = {
    "corruption": (
        "AdditiveNoise", "Blur", "Compose", "Corruption", "Downsampling", "Function", "Identity", "Mask", "Mri",
        "Operator", "Poisson", "corruption_from", "load_operator", "register_operator",
    ),
    "io": ("digits", "open_images", "open_kspace", "open_masks", "phantoms"),
    "diffusion": ("Denoiser",),
    "diffusion.networks": ("build_network",),
    "core.errors": ("UserError",),
    "runs": ("run",),
    "generator": ("Generator", "load_denoiser", "load_generator"),
    "objectives": ("DMD", "SDS", "AmbientTweedie", "DistillationLoss", "Objective", "SiD", "Standard"),
    "sampling": ("Heun", "OneStep", "Sampler", "generate"),
    "store": ("Store", "open_store"),
    "acquisition": ("corrupt_images", "import_kspace", "import_measurements"),
    "training": ("Batches", "Distillation", "DistillationSettings", "TeacherSettings", "TeacherTraining"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - by layer
    "AdditiveNoise", "Blur", "Compose", "Corruption", "Downsampling", "Function", "Identity", "Mask", "Mri",
    "Operator", "Poisson", "corruption_from", "load_operator", "register_operator", "digits", "open_images",
    "open_kspace", "open_masks", "phantoms",
    "Denoiser", "build_network", "UserError", "run", "Generator", "load_denoiser", "load_generator", "DMD", "SDS",
    "AmbientTweedie", "DistillationLoss", "Objective", "SiD", "Standard", "Heun", "OneStep", "Sampler", "generate",
    "Store", "corrupt_images", "import_kspace", "import_measurements", "open_store", "Batches", "Distillation",
    "DistillationSettings", "TeacherSettings", "TeacherTraining",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'restill' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
