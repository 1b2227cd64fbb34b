"""The choice among a student's checkpoints.

The candidate of the smallest proximal Fréchet distance is chosen. Distances to clean images are shown where there are
any, and never enter the choice. All candidates are measured on the same sets of draws (latents, operators, noise). What
these have in common cancels in differences, so a paired t-test tells two candidates apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import UserError

NEAR = "≈"
_T_95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided 95% quantile of Student's t, by number of sets of draws


@dataclass(frozen=True)
class Candidate:
    """A checkpoint of a student with what was measured of it.

    Attributes:
        images: length of the distillation so far, in generated images.
        sigma_rel: relative length of the average of the weights; None for the run's own average.
        values: proximal Fréchet distance on each of 2 to 5 sets of draws, the same sets for all candidates.
        error: standard error of their mean, from the finite number of images; includes what all candidates share.
        clean: Fréchet distance to clean images, where there are any.
    """

    images: int
    sigma_rel: float | None
    values: tuple[float, ...]
    error: float
    clean: float | None = None

    @property
    def proximal(self) -> float:
        """Mean of the values."""
        return statistics.fmean(self.values)

    @property
    def name(self) -> str:
        """In words, e.g. `48,000 images, sigma_rel 0.1`."""
        length = "own average" if self.sigma_rel is None else f"sigma_rel {self.sigma_rel:g}"
        return f"{self.images:,} images, {length}"


@dataclass(frozen=True)
class Choice:
    """What was chosen, and from what.

    Attributes:
        candidates: in the order of their measurement.
        best: the candidate of the smallest proximal distance, the first one of equals.
        near: other candidates that a paired t-test over the sets of draws does not tell apart from it (95%).
        left_out: number of averages that the snapshots do not determine well enough.
    """

    candidates: tuple[Candidate, ...]
    best: Candidate
    near: tuple[Candidate, ...]
    left_out: int = 0

    @property
    def oracle(self) -> Candidate | None:
        """The candidate that is nearest to the clean images; None where these are not known."""
        known = [c for c in self.candidates if c.clean is not None]
        return min(known, key=lambda c: c.clean or 0.0) if len(known) == len(self.candidates) else None

    @property
    def sentences(self) -> list[str]:
        """What was chosen, what is as good, and what the clean images say of it."""
        best = self.best
        lines = [f"chosen {best.name}: proximal Fréchet {best.proximal:.4g} ± {best.error:.2g}"]
        if self.near:
            lines.append(
                f"{len(self.near)} of {len(self.candidates) - 1} others (marked {NEAR}) do not differ significantly "
                f"from it: paired t-test over {len(best.values)} sets of draws, 95%"
            )
        if self.oracle is not None:
            lines.append(
                f"chosen {best.name}: clean {best.clean:.4g}; the oracle's best {self.oracle.clean:.4g} "
                f"({self.oracle.name}); the clean images were not used for choosing"
            )
        if self.left_out:
            lines.append(
                f"{self.left_out} averages are left out: too few snapshots precede them, or their spacing is too wide "
                "for the length"
            )
        return lines


def choose(candidates: Sequence[Candidate], left_out: int = 0) -> Choice:
    """The smallest proximal distance. Raises UserError where there is no candidate."""
    if not candidates:
        raise UserError("there is no checkpoint to choose from")
    best = min(candidates, key=lambda c: c.proximal)

    def is_near(other: Candidate) -> bool:
        differences = [value - least for value, least in zip(other.values, best.values, strict=True)]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        return statistics.fmean(differences) <= _T_95[len(differences)] * error

    return Choice(tuple(candidates), best, tuple(c for c in candidates if c is not best and is_near(c)), left_out)
