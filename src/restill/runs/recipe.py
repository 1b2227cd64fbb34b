"""The sections of a recipe: what a run is described by, as checked plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ..core.settings import Section
from ..corruption import Corruption, corruption_from, in_units
from ..metrics import OPTIONAL, PAIR_METRICS, SET_METRICS
from ..objectives import AmbientTweedie, AnyObjective
from ..training import DistillationSettings, TeacherSettings


class Data(Section):
    """Where the images come from.

    `source` is `digits` (scikit-learn's handwritten digits), a folder, archive or array file, or a measurement store.
    `content: clean` images are corrupted by the recipe's corruption (a benchmark); `content: measurements` are taken
    as they are, with the corruption's `sigma_n`, `gain` and the like in `sigma_unit`. Measurements may be multi-coil
    k-space (`crop`, `coils`, `maps`, and one mask for all in `masks`).
    """

    source: str | None = None
    content: Literal["clean", "measurements", "store"] = "clean"
    resize: PositiveInt | None = None
    sigma_unit: Literal["data", "normalised"] = "data"
    masks: str | None = Field(None, description="of measurements: a folder or file with one each, or nan")
    image_size: tuple[PositiveInt, PositiveInt] | None = Field(
        None, strict=False, description="of what a user's operator measured"
    )
    crop: tuple[PositiveInt, PositiveInt] | None = Field(
        None, strict=False, description="of k-space: H, W of the images"
    )
    coils: PositiveInt | None = Field(None, description="of k-space: number of virtual coils")
    maps: str | None = Field(None, description="of k-space: coil sensitivities; estimated from it if null")
    reference: str | None = Field(None, description="store of clean images, opened by evaluate alone")


class Network(Section):
    """The denoiser's network."""

    architecture: Literal["ddpmpp", "ncsnpp", "adm"] = "ddpmpp"
    model_channels: PositiveInt = 128
    channel_mult: list[PositiveInt] = Field([2, 2, 2], min_length=1)
    num_blocks: PositiveInt = 4
    attn_resolutions: list[PositiveInt] = Field([16])
    dropout: float = Field(0.0, ge=0, lt=1)
    class_conditional: bool = False
    preconditioning: Literal["masked", "edm"] = Field("masked", description="of masked problems; edm: as published")
    sigma_data: PositiveFloat | None = Field(None, description="of the clean data; estimated from the store if null")


class Baselines(Section):
    """What a student of undersampled k-space is compared with."""

    l1_wavelet: bool = Field(False, description="L1-wavelet compressed sensing of every measurement")
    l1_edm: bool = Field(False, description="a diffusion model of these reconstructions, trained like the teacher")
    iterations: PositiveInt = Field(100, description="of FISTA")
    weight: PositiveFloat | None = Field(None, description="of the L1 norm; chosen by held-out lines if null")
    wavelet: str = Field("db4", description="goes with a stated weight; chosen with it otherwise")


class Sampling(Section):
    """How samples are drawn from the teacher, and how many at a time."""

    num_steps: int = Field(18, ge=2)
    batch_size: PositiveInt = 256
    show: PositiveInt = Field(64, description="images in a grid")


class Evaluation(Section):
    """What is measured at the end."""

    samples: PositiveInt = 50_000
    seeds: list[int] = Field([0], min_length=1)
    classifier: bool = Field(True, description="also in the features of a classifier, where the reference has labels")
    metrics: list[str] = Field([name for name in (*SET_METRICS, *PAIR_METRICS) if name not in OPTIONAL], min_length=1)
    features: list[str] = Field([], description="more feature spaces: inception:FILE, dino:FOLDER")
    checks: bool = Field(True, description="memorisation, residuals, likelihood, what the operator hides")


class Execution(Section):
    """How the work is done, not what is done: may differ between the parts of a continued run."""

    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    checkpoint_every_s: PositiveFloat = 300.0
    log_every: PositiveInt = 50


class Recipe(Section):
    """A complete run."""

    name: str
    description: str = ""
    seed: int = Field(0, ge=0)
    data: Data = Data()
    corruption: dict[str, Any] = Field(default_factory=lambda: {"kind": "noise"})
    network: Network = Network()
    objective: AnyObjective = AmbientTweedie()
    teacher: TeacherSettings = TeacherSettings()
    student: DistillationSettings = DistillationSettings()
    baselines: Baselines = Baselines()
    sampling: Sampling = Sampling()
    evaluation: Evaluation = Evaluation()
    execution: Execution = Execution()

    def law(self) -> Corruption:
        """The corruption; that of measurements is checked, but photon noise in it has other units than the files'.

        Raises:
            UserError: an unknown kind, unknown keys or impossible values.
        """
        of_files = self.data.content == "measurements" and self.data.sigma_unit == "data"
        return corruption_from(in_units(self.corruption) if of_files else self.corruption)

    def differences(self, other: Recipe) -> list[str]:
        """Keys in which two recipes describe different runs; how the work is executed does not count."""
        mine, others = (_flat(r.model_dump(mode="json", exclude={"execution", "description"})) for r in (self, other))
        return [key for key in [*mine, *(others.keys() - mine.keys())] if mine.get(key) != others.get(key)]

    def value(self, key: str) -> Any:
        """The value at a dotted key."""
        return _flat(self.model_dump(mode="json")).get(key)


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
