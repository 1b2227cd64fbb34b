"""The section `sampling` of a recipe."""

from __future__ import annotations

from ..core.settings import Section, setting


class SamplingSettings(Section):
    """How samples are drawn from the teacher, and how many at a time."""

    section = "sampling"

    num_steps: int = setting(18, "steps of Heun's method", ge=2)
    batch_size: int = setting(256, "images drawn at a time", gt=0, unit="images")
    show: int = setting(64, "images in a grid", gt=0, unit="images")
