"""The classes of a conditional generator: how often each one is drawn, and how a person names one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import final

import torch
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError

Labels = int | str | Sequence[int | str] | Tensor
"""One class for all images, or one for each: names, or indices from 0."""


@final
@dataclass(frozen=True)
class Classes:
    """How often each class is drawn: in proportion to `counts`, as if the class of a random measurement were taken.

    Draws are exact, and a class of count 0 is never drawn.

    Attributes:
        counts: measurements of each class.
        names: of the classes, where they have names.
        known: whether the counts are those of the data; otherwise all classes are drawn alike.

    Raises:
        UserError: (on construction) a negative count, no count above 0, or another number of names than of counts.
    """

    counts: tuple[int, ...]
    names: tuple[str, ...] | None = None
    known: bool = True

    def __post_init__(self) -> None:
        if min(self.counts, default=0) < 0 or not 0 < sum(self.counts) < 1 << 62:
            raise UserError("the counts of the classes must be at least 0, and one of them above 0")
        if self.names is not None and len(self.names) != len(self.counts):
            raise UserError(f"there are {len(self.names)} names of classes for {len(self.counts)} counts")

    @classmethod
    def alike(cls, count: int, names: Sequence[str] | None = None) -> Self:
        """`count` classes that are drawn equally often, where the frequencies of the data are not known."""
        named = tuple(names) if names is not None and len(names) == count else None
        return cls((1,) * count, named, known=False)

    @property
    def in_words(self) -> str:
        """How classes are drawn, a clause."""
        return "classes as frequent as in the data" if self.known else "all classes equally often"

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Classes int64 `[n]`, on the generator's device.

        Balanced counts draw what `torch.randint(number of classes)` draws from the same generator.
        """
        shared = math.gcd(*self.counts)
        ends = torch.tensor(list(accumulate(count // shared for count in self.counts)), device=generator.device)
        ticket = torch.randint(int(ends[-1]), (n,), generator=generator, device=generator.device)
        return torch.bucketize(ticket, ends, right=True)  # whose interval holds it: one of count 0 has an empty one

    def index(self, wanted: int | str) -> int:
        """The index of a class that is named, or given by its index; a text is taken for a name first.

        Raises:
            UserError: no such class, or one that the data does not have.
        """
        names = self.names or ()
        if isinstance(wanted, str) and wanted in names:
            found = names.index(wanted)
        else:
            try:
                found = int(wanted)
            except ValueError:
                found = -1
        if not 0 <= found < len(self.counts):
            raise UserError(f"class {str(wanted)[:80]!r} is not known: use {self._known()}")
        if not self.counts[found]:
            raise UserError(f"class {str(wanted)[:80]!r}: no measurement of it was trained on; use another class")
        return found

    def name(self, index: int) -> str:
        """A class by its name, if it has one, and its index."""
        return str(index) if self.names is None else f"{self.names[index]!r} (index {index})"

    def labels(self, wanted: Labels, n: int) -> Tensor:
        """Classes int64 `[n]`, one for all images or one for each.

        Raises:
            UserError: as `index`, or another number of classes than of images.
        """
        if isinstance(wanted, Tensor):
            wanted = wanted.tolist()
        found = [wanted] * n if isinstance(wanted, (int, str)) else list(wanted)
        if len(found) != n:
            raise UserError(f"labels: must be one class, or one for each of the {n:,} images, not {len(found):,}")
        indices = {one: self.index(one) for one in set(found)}
        return torch.tensor([indices[one] for one in found], dtype=torch.int64)

    def _known(self) -> str:
        """The classes in a few words."""
        last = len(self.counts) - 1
        named = self.names or ()
        shown = f"{', '.join(map(repr, named[:8]))}{', ...' if len(named) > 8 else ''}, or " if named else ""
        return f"{shown[:160]}an index from 0 to {last}"
