"""`ImageSource`: images as they lie in files, read in one ordered pass after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError

Image = NDArray[np.generic]
"""One image `[C, H, W]` in the number type of its file."""


@dataclass(frozen=True)
class ImageSource:
    """Images in physical units: the numbers as they lie in the files. Iterating decodes one image at a time.

    Attributes:
        name: base name of the file or folder, for provenance; no absolute path.
        shape: `(C, H, W)` of every image.
        count: number of images.
        value_range: nominal range of the number type, (0, 255) for 8 bit; None where the data decide (16 bit, float).
        labels: class of each image, 0, 1, ...; None if the images have no classes.
        classes: names of the classes, where they have names.
        gaps: whether NaN is a value that is missing, and not a mistake.
        passes: starts a new ordered pass over (where the image lies, for messages; the image `[C, H, W]`).
    """

    name: str
    shape: tuple[int, int, int]
    count: int
    value_range: tuple[float, float] | None
    labels: tuple[int, ...] | None
    classes: tuple[str, ...] | None
    passes: Callable[[], Iterator[tuple[str, Image]]]
    gaps: bool = False

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Every image in order, float32 `[C, H, W]` in physical units; each call is a new pass.

        Raises:
            UserError: an image cannot be decoded, holds NaN or infinity, or is no longer what it was on opening;
                names the file, and the index within an array.
        """
        done = 0
        for where, image in self.passes():
            if image.shape != self.shape or done == self.count:
                raise UserError(f"{where}: has changed since {self.name} was opened; start again")
            if image.dtype.kind == "f" and not (np.isfinite(image) | (self.gaps & np.isnan(image))).all():
                raise UserError(f"{where}: holds {'' if self.gaps else 'NaN or '}infinity; images must be finite")
            yield image.astype(np.float32)
            done += 1
        if done != self.count:
            raise UserError(f"{self.name}: has {done} images now but had {self.count} when it was opened; start again")
