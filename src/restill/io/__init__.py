"""Foreign files: images and slices of k-space, one after another, in the units of the files."""

from .arrays import Arrays, array_source
from .built_in import digits, images_named
from .entries import File, Layout
from .images import ImageSource, open_images
from .kspace import KspaceSource, is_kspace, open_kspace, open_maps, open_mask
from .kspace_arrays import ComplexArrays, Hdf5, check_mask
from .mask_files import binary_masks, open_masks
from .names import Files, Pairing, check_order, check_pairs, shortened
from .partners import check_partners
from .phantoms import phantoms
from .pictures import Pictures
from .reader import Format, Header, Image, ImageReader, KspaceReader, KspaceSlice, exact
from .tiffs import Tiffs
