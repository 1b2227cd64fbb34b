"""How good images are: features, the Fréchet distance, its proximal form, and the record of results."""

from .classifier import ClassifierFeatures, load_classifier, train_classifier
from .data_consistency import data_consistency, data_consistency_check
from .dino import DinoFeatures
from .estimate import Estimate
from .feature_set import KEPT, FeatureSet
from .features import (
    OF_MAGNITUDES,
    Features,
    MagnitudeFeatures,
    PixelFeatures,
    as_seen,
    open_features,
    pixels_of,
    register_features,
    shown,
)
from .frechet import (
    MomentAccumulator,
    Moments,
    feature_moments,
    frechet_distance,
    frechet_error,
    frechet_estimate,
    frechet_infinity,
    needs,
)
from .hidden import hidden_check, hidden_share
from .inception import InceptionFeatures, download_inception
from .measure import OPTIONAL, PAIR_METRICS, SET_METRICS, Measure, check_metrics, measure
from .memorisation import memorisation, memorisation_check, twin_check, twin_share
from .pairs import lpips, psnr, ssim, ssim_settings
from .proximal import proximal_moments, recorrupted
from .reference_file import load_reference, save_reference
from .residuals import residuals, residuals_check
from .results import (
    SUBJECTS,
    Check,
    Measured,
    Reference,
    Result,
    Subject,
    load_results,
    mean_std,
    save_results,
    was_asked,
)
from .sets import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    inception_score,
    inception_settings,
    kernel_distance,
    kid_settings,
    precision_recall,
)

__all__ = [
    "KEPT",
    "OF_MAGNITUDES",
    "OPTIONAL",
    "PAIR_METRICS",
    "SET_METRICS",
    "SUBJECTS",
    "Check",
    "ClassifierFeatures",
    "DensityCoverage",
    "DinoFeatures",
    "Estimate",
    "FeatureSet",
    "Features",
    "InceptionFeatures",
    "MagnitudeFeatures",
    "Measure",
    "Measured",
    "MomentAccumulator",
    "Moments",
    "PixelFeatures",
    "PrecisionRecall",
    "Reference",
    "Result",
    "Subject",
    "as_seen",
    "check_metrics",
    "data_consistency",
    "data_consistency_check",
    "density_coverage",
    "download_inception",
    "feature_moments",
    "frechet_distance",
    "frechet_error",
    "frechet_estimate",
    "frechet_infinity",
    "hidden_check",
    "hidden_share",
    "inception_score",
    "inception_settings",
    "kernel_distance",
    "kid_settings",
    "load_classifier",
    "load_reference",
    "load_results",
    "lpips",
    "mean_std",
    "measure",
    "memorisation",
    "memorisation_check",
    "needs",
    "open_features",
    "pixels_of",
    "precision_recall",
    "proximal_moments",
    "psnr",
    "recorrupted",
    "register_features",
    "residuals",
    "residuals_check",
    "save_reference",
    "save_results",
    "shown",
    "ssim",
    "ssim_settings",
    "train_classifier",
    "twin_check",
    "twin_share",
    "was_asked",
]
