"""How good images are: features, the Fréchet distance, its proximal form, and the record of results."""

from .classifier import ClassifierFeatures, load_classifier, train_classifier
from .features import Features, PixelFeatures
from .frechet import MomentAccumulator, Moments, feature_moments, frechet_distance
from .proximal import proximal_moments
from .results import SUBJECTS, Check, Measured, Reference, Result, Subject, load_results, mean_std, save_results

__all__ = [
    "SUBJECTS",
    "Check",
    "ClassifierFeatures",
    "Features",
    "Measured",
    "MomentAccumulator",
    "Moments",
    "PixelFeatures",
    "Reference",
    "Result",
    "Subject",
    "feature_moments",
    "frechet_distance",
    "load_classifier",
    "load_results",
    "mean_std",
    "proximal_moments",
    "save_results",
    "train_classifier",
]
