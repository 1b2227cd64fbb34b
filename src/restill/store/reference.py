"""`open_reference`: clean images on disk. The training path does not import this file (tests/test_architecture.py)."""

from __future__ import annotations

from pathlib import Path
from typing import final

from torch import Tensor

from .manifest import read_manifest
from .samples import Samples, Store, checked_files, open_store


@final
class Reference(Samples):
    """Clean images that `open_reference` has checked. Results are compared with them; nothing is trained on them."""

    def images(self, index: Tensor) -> Tensor:
        """Clean images, `[n, C, H, W]`."""
        return self.stored(index)

    def pairs_with(self, store: Store) -> bool:
        """Whether sample `i` is the image behind measurement `i`: both come from one run of `corrupt`."""
        ours, theirs = self.manifest.provenance, store.manifest.provenance
        same = (ours.source, ours.seed, len(self)) == (theirs.source, theirs.seed, len(store))
        return same and ours.seed is not None


def open_reference(path: str | Path, store: Store | None = None) -> Reference:
    """The clean images at `path`, every byte checked.

    Args:
        store: measurements of the same images; checked to be comparable.

    Raises:
        UserError: as `open_store`, measurements instead of clean images, or images that do not fit `store`.
    """
    reference = Reference(*checked_files(Path(path), "reference", verify=True))
    if store is not None:
        store.check_alike(reference)
    return reference


def open_samples(path: Path) -> Store | Reference:
    """The measurements or clean images at `path`, to be shown. Raises UserError as `open_store`."""
    clean = path.exists() and read_manifest(path).kind == "reference"
    return open_reference(path) if clean else open_store(path)
