"""Generated images beside the measurements nearest to them, for the eye, and where a measurement shows nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.progress import progress_bar
from ..core.views import displayed
from ..corruption import Corruption, Loss
from ..store import Batch, Store
from .fit import observed_numbers, squared_differences

_NEIGHBOURS = 2


@dataclass(frozen=True)
class Nearest:
    """Generated images and the measurements nearest to each: to what their operators measure of the image.

    Attributes:
        images: `[m, C, H, W]` in normalised units, of complex images the magnitudes.
        measurements: on the image grid, `[m, k, C, H, W]`, nearest first, of complex images the magnitudes.
        distances: `[m, k]`, root mean square differences over what was observed, normalised.
        missing: where nothing was measured, bool `[m, k, C, H, W]`; None where everything was.
    """

    images: Tensor
    measurements: Tensor
    distances: Tensor
    missing: Tensor | None = None


def look_through(store: Store, images: Tensor | None) -> tuple[tuple[float, float], Nearest | None]:
    """The range of all measurements of a store, and those nearest to each of some images, in one pass.

    Args:
        images: `[m, C, H, W]` in normalised units; without them none are looked for.

    Returns:
        The smallest and the largest value, and for each image its two nearest measurements, found among all: by the
        root mean square difference, over what was observed, to what the measurement's own operator measures of the
        image. Of complex images the differences are those of k-space.
    """
    low, high, best = float("inf"), float("-inf"), _Best(store.corruption)
    with progress_bar(f"{'report':17}", len(store), unit="measurements") as advance:
        for batch in store.iterate():
            low, high = min(low, float(batch.y.min())), max(high, float(batch.y.max()))
            if images is not None:
                best.look(images, batch)
            advance(done=len(batch))
    if images is None:
        return (low, high), None
    found, distances = best.found["measurements"], best.found["distances"]
    beside = displayed(found.flatten(0, 1), store.is_complex).unflatten(0, distances.shape)
    return (low, high), Nearest(displayed(images, store.is_complex), beside, distances, best.found.get("missing"))


class _Best:
    """The nearest measurements so far, of batches that are not kept."""

    def __init__(self, corruption: Corruption) -> None:
        self.corruption = corruption
        self.found: dict[str, Tensor] = {}

    def look(self, images: Tensor, batch: Batch) -> None:
        """Compare with one more batch."""
        y, wide = batch.y.double(), images.double()
        squares = squared_differences(y, batch.operator, wide) / observed_numbers(y, batch.operator)[:, None]
        count = min(_NEIGHBOURS, len(batch))
        rows = squares.nan_to_num(nan=math.inf).T.topk(count, largest=False).indices.flatten()
        part, shapes = Batch(batch.y[rows], batch.operator.select(rows), None), (len(images), -1)
        residual = part.operator.apply(wide.repeat_interleave(count, dim=0)) - y[rows]  # exact, where both are alike
        squares = residual.square().flatten(1).sum(1) / observed_numbers(y[rows], part.operator)
        new = {"distances": squares.nan_to_num(nan=math.inf).sqrt(), "measurements": part.operator.to_image(part.y)}
        gaps = missing_pixels(part, self.corruption, images.shape[1:])
        new |= {} if gaps is None else {"missing": gaps}
        new = {name: value.unflatten(0, shapes) for name, value in new.items()}
        if self.found:
            new = {name: torch.cat([self.found[name], value], dim=1) for name, value in new.items()}
        order = new["distances"].argsort(dim=1, stable=True)[:, :_NEIGHBOURS]
        self.found = {name: value[torch.arange(len(images))[:, None], order] for name, value in new.items()}


def missing_pixels(batch: Batch, corruption: Corruption, shape: Sequence[int]) -> Tensor | None:
    """Where on the image grid nothing was measured, bool `[n, C, H, W]`; None where everything was.

    What is missing at a lower resolution is enlarged. No pixel can be called missing from what a user's operator
    measures.
    """
    missing = batch.operator.missing(batch.operator.to_domain(batch.y))
    if missing is None or corruption.loses(Loss.OWN_FUNCTION):
        return None
    (height, rest_h), (width, rest_w) = (divmod(shape[axis], missing.shape[axis + 1]) for axis in (1, 2))
    if height != width or rest_h or rest_w or not height:
        return None
    return missing.repeat_interleave(height, 2).repeat_interleave(width, 3).expand(-1, shape[0], -1, -1)
