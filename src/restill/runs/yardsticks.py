"""What generated images are compared with: clean images, measurements, or published statistics, in a feature space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.files import sha256
from ..core.progress import progress_bar
from ..core.shards import Shards
from ..core.tensors import seeded
from ..metrics import (
    KEPT,
    Against,
    Features,
    FeatureSet,
    load_reference,
    pixels_of,
    save_reference,
)
from ..store import Samples, Store
from ..store.reference import Reference, open_reference
from .folder import Run
from .reference_classifier import reference_classifier


@dataclass(frozen=True)
class Yardstick:
    """A feature space with the set of images that others are compared with in it."""

    features: Features
    reference: Against
    known: FeatureSet
    fingerprint: str


def clean_images(run: Run, store: Store, reference: Path | None) -> Reference | None:
    """The clean images, if there are any. Raises UserError where they do not fit the measurements."""
    path = reference or run.reference
    if path.suffix == ".npz" or (reference is None and not path.exists()):
        return None
    return open_reference(path, store)


def yardsticks_of(
    run: Run, store: Store, clean: Reference | None, spaces: Sequence[Features], shards: Shards
) -> list[Yardstick]:
    """The clean images in every feature space, if there are any, and the measurements in those that need no labels."""
    pixels = pixels_of(store.image_shape, store.is_complex)
    spaces = [space for space in spaces if space.fingerprint != pixels.fingerprint]  # named although always there
    everywhere: list[Features] = [pixels, *spaces]
    yardsticks = []
    if clean is not None:
        classifier = reference_classifier(run, clean, shards)
        own: list[Features] = [pixels, *([] if classifier is None else [classifier]), *spaces]
        for space, known in zip(own, stored(clean, own, shards, f"{'reference':17}"), strict=True):
            yardsticks.append(Yardstick(space, "clean", known, clean.fingerprint))
    for space, known in zip(everywhere, stored(store, everywhere, shards, f"{'measurements':17}"), strict=True):
        yardsticks.append(Yardstick(space, "measurements", known, store.fingerprint))
    return yardsticks


def random_order(store: Samples[Any]) -> Tensor:
    """A permutation of a store's samples that is always the same: folders of classes are not read class by class."""
    return torch.randperm(len(store), generator=seeded("evaluation order"))


def stored(
    store: Samples[Any], spaces: Sequence[Features], shards: Shards, title: str, n: int | None = None
) -> list[FeatureSet]:
    """The samples of a store, or `n` random ones, in every feature space."""
    order = random_order(store)[:n]
    mine = shards.mine(len(order), store.block)
    sets = [FeatureSet(space.dim, KEPT) for space in spaces]
    with progress_bar(title, len(mine)) as advance:
        for index in order[mine.start : mine.stop].split(store.block):
            images = store.images(index)
            for known, space in zip(sets, spaces, strict=True):
                known.update(space(images))
            advance(done=len(index))
    return [known.of_all(shards) for known in sets]


def yardstick_of_file(path: Path, spaces: Sequence[Features]) -> Yardstick:
    """Statistics of clean images from an `.npz` with `mu` and `sigma`. Raises UserError if they do not fit."""
    space = _only(spaces, path)
    return Yardstick(space, "clean", FeatureSet.of_moments(load_reference(path, space)), sha256(path))


def write_reference(path: Path, clean: Reference | None, spaces: Sequence[Features]) -> None:
    """Write the statistics of clean images as an `.npz` with `mu` and `sigma`, as the FID literature exchanges them."""
    space = _only(spaces, path)
    if clean is None:
        raise UserError(f"{path}: there are no clean images to take statistics of; give a store with --reference")
    [known] = stored(clean, [space], Shards(), f"{'reference':17}")
    save_reference(path, known.moments, space)


def _only(spaces: Sequence[Features], path: Path) -> Features:
    if len(spaces) != 1:
        raise UserError(
            f"{path}: holds statistics of one feature space; name it with --features, e.g. --features inception:FILE"
        )
    return spaces[0]
