"""The weight of compressed sensing, chosen without a clean image: the one that best predicts measurements held out.

Each slice is reconstructed from a part of its measurement. What the reconstruction would have measured in the rest is
compared with what was measured there. The noise of the rest adds the same to the error of every weight. The chosen
weight is the best for measurements that lack a little more than those of the store.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..core.tensors import seeded
from ..corruption import Operator
from ..store import Store
from .compressed_sensing import CompressedSensing

CANDIDATES = tuple(10 ** (-k / 2) for k in range(10, 2, -1))
"""1e-5 to 0.03, two to a decade."""


@dataclass(frozen=True)
class WeightChoice:
    """How well each weight predicts what was held out.

    Attributes:
        candidates: the weights that were tried.
        errors: mean squared error of each over all held-out numbers of k-space, in normalised units squared.
    """

    candidates: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def weight(self) -> float:
        """The candidate with the least error."""
        return self.candidates[self.errors.index(min(self.errors))]


def choose_weight(
    y: Tensor,
    operator: Operator,
    further: Operator,
    method: CompressedSensing,
    candidates: Sequence[float] = CANDIDATES,
    advance: Advance = silent,
) -> WeightChoice:
    """The weight that best predicts, from what `further` sees of `y`, the rest of `y`.

    Args:
        y: measurements `[n, ...]`.
        operator: theirs; `restrict` is a mask.
        further: the more corrupted operators that `corruption.further(operator, generator)` draws.
        method: all but the weight.
        candidates: weights to try, at least 0.
        advance: told of every candidate that is done.

    Raises:
        UserError: no candidates, nothing held out, or as `CompressedSensing`.
    """
    if not candidates:
        raise UserError("compressed sensing: the candidates for the weight are empty; state at least one")
    ones = torch.ones_like(y)
    held_out = operator.restrict(ones) - further.restrict(ones)
    count = float(held_out.double().sum())
    if not count > 0:
        raise UserError("compressed sensing: no line can be held out (only centre lines measured?); state the weight")
    seen, errors = further.restrict(y), []
    for weight in candidates:
        images = dataclasses.replace(method, weight=weight)(seen, further)
        residual = held_out * (operator.apply(images) - y)
        errors.append(float(residual.square().sum(dtype=torch.float64)) / count)
        advance(done=1)
    return WeightChoice(tuple(candidates), tuple(errors))


def choose_weight_for(
    store: Store, method: CompressedSensing, seed: int, most: int = 128, advance: Advance = silent
) -> WeightChoice:
    """`choose_weight` on at most `most` slices of a store, evenly spread; `seed` draws what is held out.

    Raises:
        UserError: as `choose_weight`.
    """
    index = torch.linspace(0, len(store) - 1, min(len(store), most)).round().long()
    corruption, batch = store.corruption, store.batch(index)
    further = corruption.further(batch.operator, seeded("weight", seed))
    return choose_weight(batch.y, batch.operator, further, method, advance=advance)
