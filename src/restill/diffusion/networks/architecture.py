"""The section `network` of a recipe: an architecture with its settings, and how a network is made of it.

A network of your own is a class that builds it:

    class Plain(CustomNetwork, kind="plain"):
        width: int = setting(32, "channels of the hidden layers", gt=0)

        def build(self, given: Given) -> nn.Module:
            return MyModule(given.channels, self.width)

and `network: {architecture: plain, width: 16}` in a recipe, with `--plugin FILE.py` on the command line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import PositiveInt
from torch import nn

from ...core.kinds import Described, OfKind
from ...core.settings import Several, setting


class Given(NamedTuple):
    """Properties of a network that a recipe does not choose.

    Attributes:
        channels: in and out, those of a condition (a mask) included.
        resolution: the larger side of an image, pixels.
        classes: of a class-conditional network, 0 otherwise; the width of `class_labels`.
        augment_labels: the width of `augment_labels`, 0 without augmentation.
        sigma_data: standard deviation of the clean data, in normalised units.
    """

    channels: int
    resolution: int
    classes: int = 0
    augment_labels: int = 0
    sigma_data: float = 0.5


class Architecture(Described, ABC, family="network", tag="architecture"):
    """The denoiser's network."""

    section = "network"

    class_conditional: bool = setting(False, "whether the network is told the class of an image")
    sigma_data: float | None = setting(
        None, "standard deviation of the clean data; null estimates it from the measurements", gt=0, unit="normalised"
    )
    preconditioning: Literal["masked", "edm"] = setting(
        "edm", "for masks: masked models missing pixels, edm is as published"
    )

    @abstractmethod
    def arguments(self, given: Given) -> tuple[str, dict[str, Any]]:
        """Class and keyword arguments of `build_network`, plain data: what `config.json` holds."""


class CustomNetwork(Architecture, ABC):
    """A network from outside the package; its preconditioning is its own."""

    preconditioning: Literal["edm"] = setting("edm", "edm: the network's own")

    @abstractmethod
    def build(self, given: Given) -> nn.Module:
        """A module with fresh weights, called as `net(x, sigma, class_labels=None, augment_labels=None)`.

        It takes noisy images `[n, given.channels, H, W]`, noise levels `[n]`, one-hot classes `[n, given.classes]` or
        None, and augmentation labels `[n, given.augment_labels]` or None, and returns denoised images like `x`.
        """

    def arguments(self, given: Given) -> tuple[str, dict[str, Any]]:
        settings = self.model_dump(mode="json")
        del settings[self.tag]
        return self.kind, {**settings, "given": given._asdict()}


class UNetArchitecture(Architecture, ABC):
    """A U-net of the EDM family."""

    preset: ClassVar[Mapping[str, object]]

    model_channels: int = setting(128, "channels at the full resolution", gt=0)
    channel_mult: Several[PositiveInt] = setting(
        (2, 2, 2),
        "factors on model_channels, one for each resolution; each resolution is half the previous one",
        min_length=1,
    )
    num_blocks: int = setting(4, "residual blocks at each resolution", ge=0)
    attn_resolutions: Several[PositiveInt] = setting((16,), "resolutions with self-attention", unit="pixels")
    dropout: float = setting(0.0, "probability of dropout", ge=0, lt=1)
    preconditioning: Literal["masked", "edm"] = setting(
        "masked", "for masks: masked models missing pixels, edm is as published"
    )

    def arguments(self, given: Given) -> tuple[str, dict[str, Any]]:
        return "EDMPrecond", {
            **self.preset,
            "img_resolution": given.resolution,
            "img_channels": given.channels,
            "label_dim": given.classes,
            "model_channels": self.model_channels,
            "channel_mult": list(self.channel_mult),
            "num_blocks": self.num_blocks,
            "attn_resolutions": list(self.attn_resolutions),
            "dropout": self.dropout,
            "augment_dim": given.augment_labels,
            "sigma_data": given.sigma_data,
        }


AnyArchitecture = Annotated[Architecture, OfKind(Architecture, "ddpmpp")]
"""For fields of settings."""


class DDPMpp(UNetArchitecture, kind="ddpmpp"):
    """DDPM++ (Song et al. 2021), as EDM configures it."""

    preset: ClassVar[Mapping[str, object]] = {
        "model_type": "SongUNet",
        "embedding_type": "positional",
        "encoder_type": "standard",
        "decoder_type": "standard",
        "channel_mult_noise": 1,
        "resample_filter": [1, 1],
    }


class NCSNpp(UNetArchitecture, kind="ncsnpp"):
    """NCSN++ (Song et al. 2021), as EDM configures it."""

    preset: ClassVar[Mapping[str, object]] = {
        "model_type": "SongUNet",
        "embedding_type": "fourier",
        "encoder_type": "residual",
        "decoder_type": "standard",
        "channel_mult_noise": 2,
        "resample_filter": [1, 3, 3, 1],
    }


class ADM(UNetArchitecture, kind="adm"):
    """ADM (Dhariwal and Nichol 2021)."""

    preset: ClassVar[Mapping[str, object]] = {"model_type": "DhariwalUNet"}
