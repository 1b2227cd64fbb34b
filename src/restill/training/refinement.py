"""The section `refine` of a recipe: the teacher below the noise of the measurements."""

from __future__ import annotations

from pydantic import field_validator

from ..core.settings import Several, setting
from ..sampling import Reverse
from .ema import Average
from .pool import Below, LowLevels
from .settings import PhaseSettings, TeacherSettings
from .update import Adam


class RefineSettings(PhaseSettings):
    """Rounds of expectation-maximisation, each of which trains the teacher's lower part on posterior samples."""

    section = "refine"
    rounds: int = setting(0, "rounds at most; 0 leaves the teacher as phase I made it", ge=0, le=20)
    images: int = setting(25_600, "length of each round, repeats counted", unit="images", gt=0)
    batch_size: int = setting(128, "images in an iteration", unit="images", gt=1)
    share: float = setting(0.5, "share of each batch that is noise-free posterior samples", gt=0, lt=1)
    draws: int = setting(2, "posterior samples of each measurement", ge=1)
    spread: Several[float] = setting(
        (0.5, 0.8, 1.0),
        "factor on the spread of the posterior samples in each round, the last one for all further rounds; below 1 the "
        "noise that the teacher draws falls faster, and the later rounds restore what it took",
        min_length=1,
    )
    adam: Adam = setting(Adam(lr=4e-4, warmup_images=2_000, decay="cosine"), "optimiser, anew in each round")
    ema: Average = setting(Average(halflife_images=3_000), "average of the weights, which is used as the result")
    levels: LowLevels = setting(LowLevels(), "noise levels of the posterior samples")
    stop_at: float = setting(
        0.25, "where the sampler of the refined teacher ends, as a share of the noise level", ge=0, lt=1
    )
    reverse: Reverse = setting(Reverse(), "how posterior samples are drawn")

    @field_validator("spread")
    @classmethod
    def _are_factors(cls, spread: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 <= factor <= 1 for factor in spread):
            raise ValueError(f"must be numbers from 0 to 1, not {list(spread)}")
        return spread

    def spread_of(self, number: int) -> float:
        """The factor of a round; the first is number 0."""
        return self.spread[min(number, len(self.spread) - 1)]

    def below(self, sigma_n: float) -> Below:
        """The levels below measurements of noise level `sigma_n`."""
        return Below(sigma_n, self.levels, self.share)

    def as_teacher(self, teacher: TeacherSettings) -> TeacherSettings:
        """The settings of a round: the teacher's own but for its length, its batches and its optimiser."""
        own = {name: getattr(self, name) for name in (*PhaseSettings.model_fields, "adam")}
        return teacher.changed(**own)
