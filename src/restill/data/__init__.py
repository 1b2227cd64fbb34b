"""Images from foreign files, one after another, in the units of the files."""

from .arrays import Layout, array_source
from .digits import digits
from .masks import Binary, open_masks
from .readers import open_images
from .source import ImageSource

__all__ = ["Binary", "ImageSource", "Layout", "array_source", "digits", "open_images", "open_masks"]
