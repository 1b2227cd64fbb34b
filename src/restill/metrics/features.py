"""What images are compared by: pixels, or a layer of some network (`classifier.py`, `inception.py`, `dino.py`).

`open_features` opens a feature space by its name, also one of a plug-in (`NamedFeatures`).
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from ..core.errors import UserError
from ..core.kinds import Pluggable, kinds, member
from ..core.reading import sha256
from ..core.views import displayed_shape, magnitude

MAX_PIXEL_FEATURES = 4096  # an eigendecomposition of this size takes about half a minute on two cores

OF_MAGNITUDES = "For complex images they see only magnitudes, not phases."
_CHUNK = 32  # images that a network takes at once


class Features(ABC):
    """A deterministic map from images to feature vectors. Distances compare only within one fingerprint.

    Attributes:
        name: short name for tables and `metrics.json`, e.g. `pixels`.
        fingerprint: hex hash of everything that the features depend on (weights, shape).
        dim: number of features.
        resize: how images are resized for the features, in words.
        shows: one sentence, for a reader of results, on what a number in these features can and cannot show.
        logits_of: logits `[n, classes]` of features `[n, dim]`, for the Inception score; None where there are no
            classes.
    """

    name: str
    fingerprint: str
    dim: int
    resize: str = "none"
    shows: str = "restill does not know what these features see."
    logits_of: Callable[[Tensor], Tensor] | None = None

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Features `[n, dim]` of images `[n, C, H, W]`, float32 in normalised units ([-1, 1])."""


class NamedFeatures(
    Features,
    Pluggable,
    family="features",
    builtin={"inception": "restill.metrics.inception", "dino": "restill.metrics.dino"},
):
    """Features that a recipe can name, `KIND` or `KIND:ARGUMENT`.

    Attributes:
        usage: as a user writes them, e.g. `inception:PATH[#sha256]`.
    """

    usage: ClassVar[str]

    @classmethod
    @abstractmethod
    def open(cls, argument: str, shape: tuple[int, int, int]) -> Features:
        """The features that `argument`, the text after the colon, says, for images of `shape` `(C, H, W)`."""


class NetworkFeatures(NamedFeatures):
    """Features of a published network in a local path, `KIND:PATH[#sha256]`, of images of one or three channels.

    `rgb_bytes` says how images become 8 bits, as image files of the literature are. Nothing of the path is executed.
    """

    network: nn.Module

    def __init__(self, path: Path, shape: tuple[int, int, int], sha256: str | None = None) -> None:
        """Read the network, onto the CPU.

        Args:
            path: of its files.
            shape: of one image, `(C, H, W)`.
            sha256: of the weights, 64 hex digits; None where none was stated.

        Raises:
            UserError: a package or a file is missing, the weights are not the stated ones or of another network, or
                the images have neither one nor three channels.
        """
        check_channels(shape, self.name)
        self.shape = shape
        self.network = self.read(path, sha256).eval().requires_grad_(False)

    @classmethod
    @final
    def open(cls, argument: str, shape: tuple[int, int, int]) -> Self:
        path, digest = split_hash(argument, cls.usage)
        return cls(path, shape, digest)

    @abstractmethod
    def read(self, path: Path, sha256: str | None) -> nn.Module:
        """The network of a path; also sets `fingerprint` and, where it depends on the network, `dim`."""

    @abstractmethod
    def of_bytes(self, images: Tensor) -> Tensor:
        """Features float32 `[n, dim]` of RGB images uint8 `[n, 3, H, W]`, both on the network's device."""

    @final
    def __call__(self, images: Tensor) -> Tensor:
        """Features float32 `[n, dim]` of images `[n, C, H, W]` in normalised units, on the network's device."""
        device = next(self.network.parameters()).device
        chunks = (rgb_bytes(chunk, self.shape, self.name).to(device) for chunk in images.split(_CHUNK))
        with torch.no_grad():
            return torch.cat([self.of_bytes(chunk) for chunk in chunks])

    @final
    def to(self, device: torch.device | str) -> Self:
        """Move the network; returns itself."""
        self.network.to(device)
        return self


class PixelFeatures(NamedFeatures, kind="pixels"):
    """The pixels themselves; average-pooled by the smallest power of two that leaves at most 4096 of them.

    The name says so: `pixels`, `pixels/2`, `pixels/4`. Windows that reach over the border average what lies inside.
    """

    usage = "pixels"

    def __init__(self, shape: tuple[int, ...]) -> None:
        """`shape` is that of one image, `(C, H, W)`. Raises UserError where no pooling helps (C > 4096)."""
        channels, height, width = shape
        self.shape, self.pool = (channels, height, width), 1
        while channels * -(-height // self.pool) * -(-width // self.pool) > MAX_PIXEL_FEATURES:
            if self.pool >= max(height, width):
                raise UserError(
                    f"pixel features: {channels} channels exceed the limit of {MAX_PIXEL_FEATURES} features"
                )
            self.pool *= 2
        self.dim = channels * -(-height // self.pool) * -(-width // self.pool)
        windows, finer = f"{self.pool}x{self.pool} pixels", ""
        self.name = "pixels"
        if self.pool > 1:
            self.name, self.resize = f"pixels/{self.pool}", f"averaged over {windows}"
            finer = f" and to detail finer than {windows}"
        self.fingerprint = hashlib.sha256(f"{self.name} {self.shape}".encode()).hexdigest()
        self.shows = (
            "Pixel features see the mean and covariance of pixel values, hence noise and blur. "
            f"They are blind to whether images make sense{finer}."
        )

    @classmethod
    def open(cls, argument: str, shape: tuple[int, int, int]) -> PixelFeatures:
        if argument:
            raise UserError(f"features 'pixels:{argument}': write pixels without an argument")
        return PixelFeatures(shape)

    def __call__(self, images: Tensor) -> Tensor:
        check_images(images, self.shape, self.name)
        return F.avg_pool2d(images, self.pool, ceil_mode=True).flatten(1) if self.pool > 1 else images.flatten(1)


class MagnitudeFeatures(Features):
    """A feature space of complex images: that of their magnitudes (`views.magnitude`), which people look at.

    Attributes:
        of: the feature space of real images, which has the same name and dimension.
    """

    def __init__(self, of: Features) -> None:
        self.of = of
        self.name, self.dim, self.resize, self.logits_of = of.name, of.dim, of.resize, of.logits_of
        self.fingerprint = hashlib.sha256(f"magnitude {of.fingerprint}".encode()).hexdigest()
        self.shows = f"{of.shows} {OF_MAGNITUDES}"

    def __call__(self, images: Tensor) -> Tensor:
        """Features `[n, dim]` of the magnitudes of complex images `[n, 2k, H, W]`."""
        return self.of(magnitude(images))


def as_displayed(features: Features, is_complex: bool) -> Features:
    """A feature space of what is seen of images: of the magnitudes of complex ones."""
    return MagnitudeFeatures(features) if is_complex else features


def pixels_of(shape: tuple[int, ...], is_complex: bool = False) -> Features:
    """The pixels of images of `shape` `(C, H, W)`, of complex ones their magnitudes."""
    return as_displayed(PixelFeatures(displayed_shape(shape, is_complex)), is_complex)


def check_images(images: Tensor, shape: tuple[int, int, int], name: str) -> None:
    """Raise UserError unless `images` are real, of shape `[n, *shape]`."""
    if images.ndim != 4 or tuple(images.shape[1:]) != shape or not images.is_floating_point():
        raise UserError(
            f"features {name!r} take real images of shape [n, {', '.join(map(str, shape))}], "
            f"not {images.dtype} {list(images.shape)}"
        )


def rgb_bytes(images: Tensor, shape: tuple[int, int, int], name: str) -> Tensor:
    """Images `[n, C, H, W]` in normalised units as uint8 `[n, 3, H, W]`, as networks of the literature take them.

    Values become `127.5 x + 127.5`, rounded to the nearest (halves upwards) and clipped to [0, 255], which undoes the
    normalisation of 8-bit images exactly; one channel is repeated to three.

    Raises:
        UserError: another shape, NaN or infinite values (8 bits would hide them), or neither one nor three channels.
    """
    check_images(images, shape, name)
    check_channels(shape, name)
    if not bool(torch.isfinite(images).all()):
        raise UserError(f"features {name!r}: {int((~torch.isfinite(images)).sum())} values of a batch are not finite")
    values = (images.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)  # the conversion truncates
    return values.expand(-1, 3, -1, -1).contiguous()


def check_channels(shape: tuple[int, ...], name: str) -> None:
    """Raise UserError unless images of `shape` `(C, H, W)` are grey or RGB."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise UserError(f"features {name!r} take images of 1 or 3 channels, not of shape {list(shape)}")


def state_fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of names, shapes and values of all weights, so that a file's format does not matter."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_weights(weights: Path, stated: str | None, published: str = "") -> str:
    """The hex SHA-256 of a file of weights, checked before anything of the file is used.

    Args:
        stated: the SHA-256 that the user expects, 64 hex digits; None where none was stated.
        published: the digits that it must begin with where none was stated.

    Raises:
        UserError: no such file, or another SHA-256.
    """
    if not weights.is_file():
        raise UserError(f"{weights}: no such file")
    found = sha256(weights)
    if stated is not None and found != stated.lower():
        raise UserError(f"{weights}: has the SHA-256 {found}, not {stated} as stated")
    if stated is None and not found.startswith(published):
        raise UserError(
            f"{weights}: has the SHA-256 {found}, not the published {published}...; state it if these weights are meant"
        )
    return found


def open_features(spec: str, shape: tuple[int, ...]) -> Features:
    """The feature space that `spec` names, for images of `shape` `(C, H, W)`.

    Known are `pixels`, `inception:PATH[#sha256]`, `dino:FOLDER[#sha256]` and the kinds of plug-ins. An object from
    Python needs no name: it goes wherever features go.

    Raises:
        UserError: an unknown name (names the known ones), weights that are missing or not the stated ones, a package
            that is not installed, or images that the features do not take.
    """
    kind, _, argument = spec.partition(":")
    found = member(NamedFeatures, kind)
    if found is None:
        known = ", ".join(space.usage for space in named_features())
        raise UserError(
            f"features {spec!r} are not known: use one of {known}, or name the file that defines them with --plugin"
        )
    channels, height, width = shape
    return found.open(argument, (channels, height, width))


def named_features() -> list[type[NamedFeatures]]:
    """All that a recipe can name at this moment: restill's own and those of plug-ins."""
    return [found for kind in kinds(NamedFeatures) if (found := member(NamedFeatures, kind)) is not None]


def split_hash(argument: str, usage: str) -> tuple[Path, str | None]:
    """`PATH[#sha256]` as path and hash; the path may begin with `~`. Raises UserError where it is neither."""
    path, mark, digest = argument.rpartition("#")
    if not mark:
        path, digest = argument, ""
    if not path:
        raise UserError(f"features {usage.partition(':')[0]!r} need a path: {usage}")
    if mark and not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise UserError(f"features {usage}: the SHA-256 after # must be 64 hex digits, not {digest!r}")
    return Path(path).expanduser(), digest.lower() or None
