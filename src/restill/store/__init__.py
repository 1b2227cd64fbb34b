"""Measurements on disk: written in one pass, checked on opening, read without being loaded."""

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
    "open_store",
]
