"""The order of the data, as a function of seed and step: nothing to save, nothing to lose."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.tensors import seeded
from ..store import Batch, Store


def selected(batch: Batch, index: Tensor) -> Batch:
    """Some samples of a batch, in the given order."""
    labels = None if batch.labels is None else batch.labels[index]
    return Batch(batch.y[index], batch.operator.select(index), labels)


class Batches:
    """Shuffled batches of a store; batch `k` depends on `seed` and `k` alone, so that a run can continue anywhere.

    Each epoch is a new permutation. Stores that are small enough are moved to the device once.

    Args:
        resident_bytes: stores up to this size, with masks, coil maps and all, are kept on the device.

    Attributes:
        image_shape: `(C, H, W)` of the images behind the measurements.
    """

    def __init__(
        self,
        store: Store,
        batch_size: int,
        seed: int = 0,
        device: torch.device = torch.device("cpu"),
        resident_bytes: int = 4 << 30,
    ) -> None:
        self.store, self.batch_size, self.seed, self.device = store, batch_size, seed, device
        self.image_shape: tuple[int, ...] = store.image_shape
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)
        small = store.nbytes <= resident_bytes
        self._resident = store.batch(torch.arange(len(store))).to(device) if small else None

    def at(self, step: int) -> Batch:
        """Batch number `step`, on the device."""
        index = self._index(step)
        if self._resident is None:
            return self.store.batch(index).to(self.device)
        return selected(self._resident, index.to(self.device))

    def _index(self, step: int) -> Tensor:
        first = step * self.batch_size
        parts, wanted = [], self.batch_size
        while wanted:
            epoch, offset = divmod(first, len(self.store))
            part = self._permutation(epoch)[offset : offset + wanted]
            parts.append(part)
            wanted -= len(part)
            first += len(part)
        return torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.store), generator=seeded("epoch", self.seed, epoch))
        return self._order
