"""From foreign files to a store: measurements as they are, or benchmarks that are made of clean images."""

from .benchmark import corrupt_images
from .gaps import masks_from
from .images import import_measurements
from .slices import import_kspace

__all__ = ["corrupt_images", "import_kspace", "import_measurements", "masks_from"]
