"""The section `evaluation` of a recipe: what is measured at the end."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from ..core.settings import Section, Several, setting
from .measure import OPTIONAL, PAIR_METRICS, SET_METRICS, check_metrics

Seed = Annotated[int, Field(ge=0)]


class EvaluationSettings(Section):
    """What is measured at the end."""

    section = "evaluation"

    samples: int = setting(50_000, "images drawn for each seed", gt=0, unit="images")
    seeds: Several[Seed] = setting((0,), "sampling seeds; several give a standard deviation", min_length=1)
    classifier: bool = setting(True, "whether to add the features of a classifier, if the reference has labels")
    metrics: Several[str] = setting(
        tuple(name for name in (*SET_METRICS, *PAIR_METRICS) if name not in OPTIONAL),
        "names of the metrics",
        min_length=1,
    )
    features: Several[str] = setting((), "additional feature spaces: inception:FILE, dino:FOLDER, or your own kind")
    checks: bool = setting(True, "whether to check memorisation, residuals, likelihood and what the operators hide")

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"must be different, not {list(seeds)}: equal seeds draw equal images")
        return seeds

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        check_metrics(metrics)
        return metrics
