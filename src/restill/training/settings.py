"""The settings of both phases, which are the sections `teacher` and `student` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator
from typing_extensions import Self

from ..core.settings import Section, Several, setting, wrong
from ..objectives import AnyLoss, Consistency, SiD
from .ema import Average
from .posthoc import TRACKED
from .update import Adam


class PhaseSettings(Section):
    """What the settings of both phases have in common."""

    images: int = setting(..., "length of the training in images, repeats counted", unit="images", gt=0)
    batch_size: int = setting(..., "images in an iteration", unit="images", gt=0)
    accumulate: int = setting(1, "parts into which a batch is split to save memory; must divide batch_size", gt=0)
    ema: Average = setting(Average(), "average of the weights, which is used as the result")

    @model_validator(mode="after")
    def _parts_of_one_size(self) -> Self:
        if self.batch_size % self.accumulate:
            raise wrong("accumulate", f"must divide batch_size {self.batch_size}, not {self.accumulate}")
        return self


class TeacherSettings(PhaseSettings):
    """Phase I."""

    section = "teacher"
    images: int = setting(200_000_000, "length of the training in images, repeats counted", unit="images", gt=0)
    batch_size: int = setting(512, "images in an iteration", unit="images", gt=0)
    adam: Adam = setting(Adam(), "optimiser")
    augment: float = setting(0.0, "probability of each flip or quarter turn", ge=0, le=1)
    consistency: Consistency = setting(Consistency(), "consistency regulariser")


class DistillationSettings(PhaseSettings):
    """Phase II."""

    section = "student"
    loss: AnyLoss = setting(SiD(), "loss of the generator")
    init_sigma: float = setting(2.5, "noise level at which the generator D(init_sigma z; init_sigma) starts", gt=0)
    tmax: int = setting(800, "highest noise level of the generator's update, in thousandths of the grid", gt=0, le=1000)
    images: int = setting(100_000_000, "length of the distillation, counted in generated images", unit="images", gt=0)
    batch_size: int = setting(256, "images in an iteration", unit="images", gt=0)
    opponents: Several[str] = setting(
        ("fake",), "players beside the generator, by kind: fake (the fake score), or kinds of plug-ins", min_length=1
    )
    generator: Adam = setting(Adam(lr=1e-5, beta1=0.0), "optimiser of the generator")
    fake: Adam = setting(Adam(lr=1e-5, beta1=0.0), "optimiser of the fake score")
    loss_scale: float = setting(100.0, "factor on the generator's loss; it matters only relative to Adam's eps", gt=0)
    share_samples: bool = setting(True, "whether the fake score learns from the images of the generator's update")
    fake_steps: int = setting(1, "updates of the fake score for each update of the generator", gt=0)
    select_every: int = setting(500_000, "images between two proximal Frechet distances", unit="images", gt=0)
    select_samples: int = setting(10_000, "images for the proximal Frechet distance", unit="images", gt=0)
    snapshots: int = setting(16, "snapshots of the averaged weights, for `restill select`", ge=0)

    @model_validator(mode="before")
    @classmethod
    def _old_keys(cls, data: Any) -> Any:
        data = loss_in_one_place(data)
        if isinstance(data, Mapping) and "alpha" in data:
            other = data["loss"]["alpha"]
            raise wrong("alpha", f"is {data['alpha']}, but loss.alpha is {other}; state loss.alpha alone")
        return data

    @property
    def power_ema(self) -> tuple[float, ...]:
        """`sigma_rel` of the averages from which those of other lengths follow after the run (`posthoc.py`)."""
        return TRACKED if self.snapshots else ()


def loss_in_one_place(student: Any) -> Any:
    """The keys of an old student with `alpha` beside `loss`, moved inside it; it counts for SiD.

    Where the loss has another alpha already, the keys stay as they are.
    """
    if not isinstance(student, Mapping) or "alpha" not in student:
        return student
    loss = student.get("loss", {})
    loss = {"kind": loss} if isinstance(loss, str) else loss
    if isinstance(loss, Mapping) and loss.get("kind", SiD.kind) == SiD.kind:
        if loss.get("alpha", student["alpha"]) != student["alpha"]:
            return student
        loss = {**loss, "alpha": student["alpha"]}
    return {key: value for key, value in student.items() if key != "alpha"} | {"loss": loss}
