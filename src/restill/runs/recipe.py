"""A recipe: the sections that describe a run, each written beside the code that it configures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from ..acquisition.settings import DataSettings
from ..core import plugins
from ..core.settings import Section, Several, setting
from ..corruption import Corruption, corruption_from, in_units
from ..diffusion.networks.architecture import AnyArchitecture, DDPMpp
from ..metrics.settings import EvaluationSettings
from ..objectives import AmbientTweedie, AnyObjective
from ..restoration.baselines import BaselineSettings
from ..sampling.settings import AnySampling, HeunSampling
from ..training import DistillationSettings, RefineSettings, TeacherSettings, opponents_of
from .execution import ExecutionSettings


class Recipe(Section):
    """A complete run."""

    plugins: Several[str] = setting((), "names of the plug-ins that the recipe needs")
    name: str = setting(..., "name of the recipe")
    description: str = setting("", "description for readers")
    seed: int = setting(0, "seed of all randomness", ge=0)
    data: DataSettings = DataSettings()
    corruption: dict[str, Any] = Field(
        default_factory=lambda: {"kind": "noise"}, description="corruption of the images, by its kind"
    )
    network: AnyArchitecture = setting(DDPMpp(), "architecture of the denoiser's network")
    objective: AnyObjective = setting(AmbientTweedie(), "denoising objective of the teacher and the fake score")
    teacher: TeacherSettings = TeacherSettings()
    refine: RefineSettings = RefineSettings()
    student: DistillationSettings = DistillationSettings()
    baselines: BaselineSettings = BaselineSettings()
    sampling: AnySampling = setting(HeunSampling(), "sampler of the teacher")
    evaluation: EvaluationSettings = EvaluationSettings()
    execution: ExecutionSettings = ExecutionSettings()

    @field_validator("plugins")  # before all other keys, which may need them
    @classmethod
    def _loaded(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        plugins.require(names)
        return names

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        opponents_of(self.student)  # an unknown one is refused before phase I, not after it
        if self.build_corruption().sigma_max > 0 and self.objective.kind == "standard":
            raise ValueError(
                "objective.kind standard also learns the noise; with corruption.sigma_n > 0 use ambient-tweedie"
            )
        return self

    def build_corruption(self) -> Corruption:
        """The corruption; that of measurements is checked, but photon noise in it has other units than the files'.

        Raises:
            UserError: an unknown kind, unknown keys or impossible values.
        """
        of_files = self.data.content == "measurements" and self.data.sigma_unit == "data"
        return corruption_from(in_units(self.corruption) if of_files else self.corruption)

    def differences(self, other: Recipe) -> list[str]:
        """Keys in which two recipes describe different runs; how the work is executed does not count."""
        mine, others = (flat(r.model_dump(mode="json", exclude={"execution", "description"})) for r in (self, other))
        return [key for key in {**mine, **others} if mine.get(key) != others.get(key)]

    def value(self, key: str) -> Any:
        """The value at a dotted key."""
        return flat(self.model_dump(mode="json")).get(key)


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plain data by dotted key."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
