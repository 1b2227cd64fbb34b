"""The section `refine` of a recipe: the teacher below the noise of the measurements."""

from __future__ import annotations

from ..core.settings import setting
from ..sampling import Reverse
from .ema import Average
from .pool import LowLevels
from .settings import PhaseSettings, TeacherSettings
from .update import Adam


class RefineSettings(PhaseSettings):
    """Rounds of expectation-maximisation, each of which trains the teacher's lower part on posterior samples."""

    section = "refine"
    rounds: int = setting(0, "rounds at most; 0 leaves the teacher as phase I made it", ge=0, le=20)
    images: int = setting(25_600, "length of each round, repeats counted", unit="images", gt=0)
    batch_size: int = setting(128, "images in an iteration", unit="images", gt=1)
    share: float = setting(0.5, "share of each batch that is noise-free posterior samples", gt=0, lt=1)
    draws: int = setting(3, "posterior samples of each measurement", ge=1)
    adam: Adam = setting(Adam(lr=4e-4, warmup_images=2_000, decay="cosine"), "optimiser, anew in each round")
    ema: Average = setting(Average(halflife_images=3_000), "average of the weights, which is used as the result")
    levels: LowLevels = setting(LowLevels(), "noise levels of the posterior samples")
    reverse: Reverse = setting(Reverse(), "how posterior samples are drawn")

    @property
    def from_pool(self) -> int:
        """Images of each batch that are posterior samples."""
        return min(max(round(self.share * self.batch_size), 1), self.batch_size - 1)

    def as_teacher(self, teacher: TeacherSettings) -> TeacherSettings:
        """The settings of a round: the teacher's own but for its length, its batches and its optimiser."""
        own = {name: getattr(self, name) for name in (*PhaseSettings.model_fields, "adam")}
        return teacher.changed(**own)
