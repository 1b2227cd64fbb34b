"""Checks for what comparisons of sets cannot detect: memorisation, residuals, hidden share, likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoint import NetworkConfig
from ..core.progress import progress_bar
from ..core.views import displayed
from ..metrics import Check, Subject, Yardstick, needs, random_order, recorrupted
from ..store import Store
from .hidden import hidden_check, hidden_share, operators_for
from .likelihood import likelihood_check, measurement_likelihood
from .memorisation import memorisation, memorisation_check, twin_check, twin_share
from .residuals import residuals, residuals_check

AUDITED = 2_000  # generated images that are checked
_MEASUREMENTS = 10_000
_SCORED = 300  # measurements whose likelihood is estimated: each meets every generated image


@dataclass(frozen=True, eq=False)
class Audit:
    """The checks of all subjects, against the same measurements.

    Complex images are compared by their magnitudes where people would look at them (duplicates, residuals), and as
    complex numbers where operators or noise matter (hidden share, memorisation, likelihood).

    Attributes:
        store: the measurements.
        seed: of corrupting anew.
        held_out: measurements that nothing was trained on, for memorisation and likelihood, if there are any.
    """

    store: Store
    seed: int
    held_out: Store | None = None

    def of_data(self, sigma_data: float, yardsticks: Sequence[Yardstick], n: int) -> list[Check]:
        """Statements on the measurements, and on what `n` images per set can tell."""
        count = operators_for(math.prod(self.store.shape))
        operator = self.store.batch(random_order(self.store)[:count]).operator
        shape = self.store.image_shape
        return [
            hidden_check(hidden_share(operator, shape, sigma_data, self.seed)),
            *sample_sizes(yardsticks, n),
        ]

    def of_subject(self, subject: Subject, config: NetworkConfig, images: Tensor) -> list[Check]:
        """Statements on generated images `[m, C, H, W]` of a network with this configuration."""
        corruption = config.build_corruption()
        measured, held_out = _some(self.store), None if self.held_out is None else _some(self.held_out)
        anew = torch.cat(list(recorrupted([images], corruption, self.seed)))
        looks = [displayed(x, self.store.is_complex) for x in (images, anew, measured)]
        questions: list[Callable[[], Check]] = [
            lambda: memorisation_check(memorisation(measured, images, corruption, self.seed, held_out), subject),
            lambda: twin_check(twin_share(looks[0], _image_std(config, looks[0])), len(images), subject),
            lambda: residuals_check(residuals(*looks[1:]), subject),
        ]
        answers = _answers(subject, questions)
        unseen = self.held_out or self.store
        scored = unseen.batch(random_order(unseen)[:_SCORED])
        likelihood = measurement_likelihood(scored.y, scored.operator, images, self.seed, corruption)
        if likelihood is None:
            return answers
        number = "measured number of k-space" if self.store.is_complex else "pixel"
        return [*answers, likelihood_check(likelihood, subject, number)]


def sample_sizes(yardsticks: Sequence[Yardstick], n: int) -> list[Check]:
    """A warning for every feature space with more features than `n` images can tell apart."""
    dims = {y.features.name: y.features.dim for y in yardsticks}
    return [
        Check(
            name="sample-size",
            value=n,
            status="warning",
            sentence=(
                f"Fréchet distances in {name} use {dim:,} features but only {n:,} images per set. The covariances "
                f"are rank-deficient, and the distances are too large by an amount that depends on n. Use at least "
                f"{needs(dim):,} images (evaluation.samples)."
            ),
            settings={"needs": needs(dim)},
        )
        for name, dim in dims.items()
        if n < needs(dim)
    ]


def _image_std(config: NetworkConfig, images: Tensor) -> float:
    """Standard deviation of what is seen of images; where the teacher does not know it, that of the generated ones."""
    known = config.image_shape is None and not config.complex_values
    return config.sigma_data if known else max(float(images.std()), 1e-6)


def _some(store: Store) -> Tensor:
    return torch.cat([store.images(part) for part in random_order(store)[:_MEASUREMENTS].split(store.block)])


def _answers(subject: Subject, questions: list[Callable[[], Check]]) -> list[Check]:
    answers = []
    with progress_bar(f"{subject:17}", len(questions), unit="checks") as advance:
        for question in questions:
            answers.append(question())
            advance(done=1)
    return answers
