"""The section `evaluation` of a recipe: what is measured at the end."""

from __future__ import annotations

from pydantic import field_validator

from ..core.settings import Section, Several, setting
from .measure import OPTIONAL, PAIR_METRICS, SET_METRICS, check_metrics


class EvaluationSettings(Section):
    """What is measured at the end."""

    section = "evaluation"

    samples: int = setting(50_000, "drawn for each seed", gt=0, unit="images")
    seeds: Several[int] = setting((0,), "of the samples; several give a spread", min_length=1)
    classifier: bool = setting(True, "also in the features of a classifier, where the reference has labels")
    metrics: Several[str] = setting(
        tuple(name for name in (*SET_METRICS, *PAIR_METRICS) if name not in OPTIONAL), "what is computed", min_length=1
    )
    features: Several[str] = setting((), "more feature spaces: inception:FILE, dino:FOLDER, or your own kind")
    checks: bool = setting(True, "memorisation, residuals, likelihood, what the operator hides")

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        check_metrics(metrics)
        return metrics
