"""restill: one-step generators of clean images, learned from corrupted measurements only.

The names below are the library; each is imported when it is first used, so that `import restill` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.lazy import lazily
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
    from .diffusion import Denoiser, NetworkDenoiser
    from .diffusion.networks import build_network
    from .generator import Generator, load_denoiser, load_generator
    from .io import digits, open_images, open_kspace, open_masks, phantoms
    from .objectives import DMD, SDS, AmbientTweedie, DistillationLoss, Objective, SiD, Standard
    from .runs import build_denoiser, load_recipe, run
    from .sampling import Heun, OneStep, Sampler, generate
    from .store import Store, open_store
    from .training import Batches, Distillation, DistillationSettings, TeacherSettings, TeacherTraining

__all__ = [  # noqa: RUF022 - by layer
    "AdditiveNoise", "Blur", "Compose", "Corruption", "Downsampling", "Function", "Identity", "Mask", "Mri",
    "Operator", "Poisson", "corruption_from", "load_operator", "register_operator", "digits", "open_images",
    "open_kspace", "open_masks", "phantoms", "Denoiser", "NetworkDenoiser", "build_network", "UserError",
    "build_denoiser", "load_recipe", "run", "Generator", "load_denoiser", "load_generator", "DMD", "SDS",
    "AmbientTweedie", "DistillationLoss", "Objective", "SiD", "Standard", "Heun", "OneStep", "Sampler", "generate",
    "Store", "corrupt_images", "import_kspace", "import_measurements", "open_store", "Batches", "Distillation",
    "DistillationSettings", "TeacherSettings", "TeacherTraining",
]  # fmt: skip

__getattr__, __dir__ = lazily(__name__)
