"""Measurements on disk: written in one pass, checked on opening, read without being loaded.

Clean images are another type, in `store.reference`, which only evaluation opens.
"""

from .manifest import Contents, Manifest, Normalisation
from .samples import Batch, Samples, Store, open_store
from .writer import StoreWriter
