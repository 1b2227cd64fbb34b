"""What happened to the images: operators, and the laws that draw them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazily

if TYPE_CHECKING:
    from .blur import Blur, BlurOperator
    from .chain import Chain
    from .compose import Compose
    from .corruption import Corruption, corruption_from, corruption_kinds
    from .descriptions import as_mapping, has_photon_noise, in_units, with_contents
    from .downsampling import Downsampling, DownsamplingOperator
    from .embedded import Embedded
    from .function import Function, FunctionOperator, load_operator, register_operator
    from .mask import Mask, MaskOperator
    from .mri import Mri, MriOperator
    from .noise import AdditiveNoise
    from .operator import Identity, Operator
    from .poisson import Poisson, PoissonOperator
    from .prior import Prior

__all__ = [
    "AdditiveNoise",
    "Blur",
    "BlurOperator",
    "Chain",
    "Compose",
    "Corruption",
    "Downsampling",
    "DownsamplingOperator",
    "Embedded",
    "Function",
    "FunctionOperator",
    "Identity",
    "Mask",
    "MaskOperator",
    "Mri",
    "MriOperator",
    "Operator",
    "Poisson",
    "PoissonOperator",
    "Prior",
    "as_mapping",
    "corruption_from",
    "corruption_kinds",
    "has_photon_noise",
    "in_units",
    "load_operator",
    "register_operator",
    "with_contents",
]

__getattr__, __dir__ = lazily(__name__)
