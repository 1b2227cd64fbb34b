"""What comparisons of sets cannot see, asked of the images: memorisation, residuals, hidden share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..metrics import (
    Check,
    Subject,
    hidden_check,
    hidden_share,
    memorisation,
    memorisation_check,
    recorrupted,
    residuals,
    residuals_check,
    twin_check,
    twin_share,
)
from ..metrics.hidden import OPERATORS
from ..metrics.likelihood import Undefined, likelihood_check, measurement_likelihood
from ..progress import progress_bar
from ..store import Store
from .subjects import Source
from .yardsticks import on_grid, random_order

AUDITED = 2_000  # generated images that are checked
_MEASUREMENTS = 10_000
_SCORED = 300  # measurements whose likelihood is estimated: each meets every generated image


@dataclass(frozen=True, eq=False)
class Audit:
    """What the checks look at: the same measurements for all subjects.

    Attributes:
        store: the measurements.
        seed: of corrupting anew.
    """

    store: Store
    seed: int

    def of_data(self, source: Source) -> list[Check]:
        """Statements on the measurements themselves."""
        operator = self.store.batch(random_order(self.store)[:OPERATORS]).operator
        assert operator is not None
        shape, sigma_data = self.store.image_shape, source.config.sigma_data
        return [hidden_check(hidden_share(operator, shape, sigma_data, self.seed))]

    def of_subject(self, source: Source, images: Tensor) -> list[Check]:
        """Statements on generated images `[m, C, H, W]`."""
        subject, law = source.subject, source.config.law()
        measured = on_grid(self.store, random_order(self.store)[:_MEASUREMENTS])
        anew = torch.cat(list(recorrupted([images], law, self.seed)))
        questions: list[Callable[[], Check]] = [
            lambda: memorisation_check(memorisation(measured, images, law, self.seed), subject),
            lambda: twin_check(twin_share(images, source.config.sigma_data), len(images), subject),
            lambda: residuals_check(residuals(anew, measured), subject),
        ]
        answers = _answers(subject, questions)
        scored = self.store.batch(random_order(self.store)[:_SCORED])
        assert scored.operator is not None
        likelihood = measurement_likelihood(scored.y, scored.operator, images, self.seed)
        return answers if isinstance(likelihood, Undefined) else [*answers, likelihood_check(likelihood, subject)]


def _answers(subject: Subject, questions: list[Callable[[], Check]]) -> list[Check]:
    answers = []
    with progress_bar(f"{subject:17}", len(questions), unit="checks") as advance:
        for question in questions:
            answers.append(question())
            advance(done=1)
    return answers
