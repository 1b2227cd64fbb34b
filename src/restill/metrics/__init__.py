"""How good images are: features, the Fréchet distance, its proximal form, and the record of results."""

from .classifier import ClassifierFeatures, load_classifier, train_classifier
from .dino import DinoFeatures
from .estimate import Estimate
from .evaluator import Evaluator
from .feature_set import FeatureSet
from .features import (
    OF_MAGNITUDES,
    Features,
    MagnitudeFeatures,
    NamedFeatures,
    PixelFeatures,
    as_displayed,
    named_features,
    open_features,
    pixels_of,
)
from .frechet import (
    MomentAccumulator,
    Moments,
    feature_moments,
    frechet_distance,
    frechet_estimate,
    frechet_infinity,
    needs,
)
from .inception import InceptionFeatures, download_inception
from .measure import PAIR_METRICS, measure
from .pairs import lpips, pair_results, psnr, ssim, ssim_settings
from .proximal import Proximal, recorrupted
from .reference_file import load_reference, save_reference
from .results import (
    SUBJECTS,
    Check,
    Measured,
    Result,
    Subject,
    load_results,
    made_from,
    mean_std,
    save_results,
    was_asked,
)
from .sets import (
    density_coverage,
    inception_score,
    inception_settings,
    kernel_distance,
    kid_settings,
    precision_recall,
)
from .speed import Speed, speeds
from .yardstick import Yardstick, random_order, write_reference, yardstick_of_file, yardsticks_of
