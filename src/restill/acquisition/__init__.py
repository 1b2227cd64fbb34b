"""From foreign files to a store: measurements as they are, or benchmarks that are made of clean images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazily

if TYPE_CHECKING:
    from .clean_images import CleanImages, corrupt_images
    from .measured_images import MeasuredImages, import_measurements
    from .measured_kspace import MeasuredKspace, import_kspace
    from .measurements import measurements_of
    from .pipeline import Acquisition, write
    from .settings import DataSettings

__getattr__, __dir__ = lazily(__name__)
