"""restill: one-step generators of clean images, learned from corrupted measurements only.

The names below are the library; each is imported when it is first used, so that `import restill` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
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
    from .data import digits, open_images, open_kspace, open_masks, phantoms
    from .diffusion import Denoiser
    from .diffusion.networks import build_network
    from .errors import UserError
    from .experiment import run
    from .generator import Generator, load_denoiser, load_generator
    from .objectives import DMD, SDS, AmbientTweedie, DistillationLoss, Objective, SiD, Standard
    from .sampling import Heun, OneStep, Sampler, generate
    from .store import Store, corrupt_images, import_kspace, import_measurements, open_store
    from .training import Batches, Distillation, DistillationSettings, TeacherSettings, TeacherTraining

_HOMES = {
    "corruption": (
        "AdditiveNoise", "Blur", "Compose", "Corruption", "Downsampling", "Function", "Identity", "Mask", "Mri",
        "Operator", "Poisson", "corruption_from", "load_operator", "register_operator",
    ),
    "data": ("digits", "open_images", "open_kspace", "open_masks", "phantoms"),
    "diffusion": ("Denoiser",),
    "diffusion.networks": ("build_network",),
    "errors": ("UserError",),
    "experiment": ("run",),
    "generator": ("Generator", "load_denoiser", "load_generator"),
    "objectives": ("DMD", "SDS", "AmbientTweedie", "DistillationLoss", "Objective", "SiD", "Standard"),
    "sampling": ("Heun", "OneStep", "Sampler", "generate"),
    "store": ("Store", "corrupt_images", "import_kspace", "import_measurements", "open_store"),
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
