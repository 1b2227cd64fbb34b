"""The processes that `torchrun` has started, and their common work; one process alone is the case of one share.

A `Processes` is passed to whoever shares work, never global. It knows tensors and ranges alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process among all that do the same work; those of the default group of torch.distributed if several.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def share(self, n: int, multiple: int = 1) -> range:
        """This process's consecutive share of `range(n)`; shares begin at multiples of `multiple`."""
        blocks = -(-n // multiple)
        start, stop = (min(n, blocks * k // self.count * multiple) for k in (self.rank, self.rank + 1))
        return range(start, stop)

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, on the CPU; their lengths may differ."""
        if self.count == 1:
            return [tensor]
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(lengths, torch.tensor([len(tensor)]))
        longest = max(int(length) for length in lengths)
        padded = tensor.new_zeros(longest, *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        return [part[: int(length)] for part, length in zip(parts, lengths, strict=True)]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, the same in each."""
        return torch.stack(self.gathered(torch.tensor(values, dtype=torch.float64))).sum(dim=0).tolist()

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes; these have tensors of equal shapes and dtype in order."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])  # one exchange instead of one for each
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def largest(self, value: float) -> float:
        """The largest value of all processes, e.g. the wall clock of work that they share."""
        return max(float(part) for part in self.gathered(torch.tensor([value], dtype=torch.float64)))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """This process among those of `torchrun`, which sets WORLD_SIZE and RANK; alone where they are not set."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
