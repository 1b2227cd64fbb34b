"""Images from foreign files, one after another, in the units of the files."""

from .arrays import Layout, array_source
from .digits import digits
from .images import open_images
from .kspace import KspaceSlice, KspaceSource, check_mask, open_kspace, open_maps, open_mask
from .kspace_files import is_kspace
from .mask_files import Binary, open_masks
from .phantoms import phantoms
from .phase import with_phase
from .source import ImageSource

__all__ = [
    "Binary",
    "ImageSource",
    "KspaceSlice",
    "KspaceSource",
    "Layout",
    "array_source",
    "check_mask",
    "digits",
    "is_kspace",
    "open_images",
    "open_kspace",
    "open_maps",
    "open_mask",
    "open_masks",
    "phantoms",
    "with_phase",
]
