"""What happened to the images: operators, and the corruptions that draw them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazily

if TYPE_CHECKING:
    from .bases import (
        AsMeasured,
        Complete,
        CompleteOperator,
        Differentiable,
        Identity,
        Linear,
        MaskingOperator,
        MeasurementOperator,
        OnImageGrid,
        PixelOperator,
        SamplingOperator,
        WhiteInDomain,
        linear,
    )
    from .blur import Blur, BlurOperator
    from .chain import Chain
    from .compose import Compose
    from .corruption import Corruption, Loss, Shapes, corruption_from, corruption_kinds, reduction
    from .descriptions import as_mapping, has_photon_noise, in_units, with_contents
    from .downsampling import Downsampling, DownsamplingOperator
    from .embedded import Embedded
    from .function import Function, FunctionOperator, load_operator, register_operator
    from .mask import Mask, MaskOperator
    from .mri.corruption import Mri
    from .mri.operator import MriOperator
    from .noise import AdditiveNoise
    from .operator import Operator
    from .poisson import Poisson, PoissonOperator, photons_of
    from .traits import CustomCorruption, GaussianNoise, PartlyClean, WithoutGaps

__all__ = [
    "AdditiveNoise",
    "AsMeasured",
    "Blur",
    "BlurOperator",
    "Chain",
    "Complete",
    "CompleteOperator",
    "Compose",
    "Corruption",
    "CustomCorruption",
    "Differentiable",
    "Downsampling",
    "DownsamplingOperator",
    "Embedded",
    "Function",
    "FunctionOperator",
    "GaussianNoise",
    "Identity",
    "Linear",
    "Loss",
    "Mask",
    "MaskOperator",
    "MaskingOperator",
    "MeasurementOperator",
    "Mri",
    "MriOperator",
    "OnImageGrid",
    "Operator",
    "PartlyClean",
    "PixelOperator",
    "Poisson",
    "PoissonOperator",
    "SamplingOperator",
    "Shapes",
    "WhiteInDomain",
    "WithoutGaps",
    "as_mapping",
    "corruption_from",
    "corruption_kinds",
    "has_photon_noise",
    "in_units",
    "linear",
    "load_operator",
    "photons_of",
    "reduction",
    "register_operator",
    "with_contents",
]

__getattr__, __dir__ = lazily(__name__)
