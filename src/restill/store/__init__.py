"""Measurements on disk: written in one pass, checked on opening, read without being loaded."""

from .build import corrupt_images
from .gaps import masks_from
from .importing import import_measurements
from .kspace import import_kspace
from .manifest import Contents, Manifest, Normalisation
from .reader import Batch, Store, open_store
from .writer import StoreWriter

__all__ = [
    "Batch",
    "Contents",
    "Manifest",
    "Normalisation",
    "Store",
    "StoreWriter",
    "corrupt_images",
    "import_kspace",
    "import_measurements",
    "masks_from",
    "open_store",
]
