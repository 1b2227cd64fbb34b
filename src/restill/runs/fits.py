"""How well reconstructions of k-space fit what was measured: zero-filled, L1-wavelet, the teacher's posterior mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..checks import data_consistency, data_consistency_check
from ..metrics import Check, Subject
from ..store import Batch, Store, open_store
from .folder import Run
from .restored_pairs import restore
from .subjects import Source
from .yardsticks import random_order

_SLICES = 256


def fits(run: Run, store: Store, teacher: Source) -> list[Check]:
    """A statement for every way to reconstruct the same slices; none for images that are not complex."""
    if not store.is_complex:
        return []
    index = random_order(store)[:_SLICES]
    ways: list[tuple[Subject, str, Callable[[Batch, Tensor], Tensor]]] = [
        ("measurements", "zero-filled reconstructions", lambda batch, _: batch.operator.to_image(batch.y))
    ]
    if run.reconstructions.exists():
        made = open_store(run.reconstructions, verify=False)
        ways.append(("l1-wavelet", "L1-wavelet reconstructions", lambda _, rows: made.batch(rows).y))
    if teacher.config.role == "teacher":
        ways.append(("teacher-full", "the teacher's reconstructions", lambda batch, _: restore(teacher, batch)))
    checks = []
    for subject, what, reconstruct in ways:
        found = []
        for rows in index.split(store.block):
            batch = store.batch(rows)
            found.append(torch.stack(data_consistency(reconstruct(batch, rows), batch.y, batch.operator)))
        residual, noise = torch.cat(found, dim=1)
        checks.append(data_consistency_check(residual, noise, subject, what))
    return checks
