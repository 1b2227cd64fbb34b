"""Data consistency: how far a reconstruction is from its own measurement. No clean image is needed.

A reconstruction that fits its measurement better than the noise allows has fitted the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.errors import UserError
from ..corruption import Operator
from ..metrics.results import Check, Subject
from ..metrics.yardstick import random_order
from ..store import Batch, Store

_SLICES = 256


class Way(NamedTuple):
    """A way to reconstruct.

    Attributes:
        subject: as `metrics.json` calls it.
        what: whose reconstructions these are, e.g. "L1-wavelet reconstructions".
        reconstruct: the images `[n, C, H, W]` of a batch and of its rows in the store.
    """

    subject: Subject
    what: str
    reconstruct: Callable[[Batch, Tensor], Tensor]


def data_consistency(images: Tensor, y: Tensor, operator: Operator) -> tuple[Tensor, Tensor]:
    """`|A x - y| / |y|` of each reconstruction, and its expected value from noise alone, both float64 `[n]`.

    Args:
        images: reconstructions `[n, C, H, W]`, one of each measurement.
        y: the measurements `[n, ...]`, none of them all zeros.
        operator: theirs.

    Raises:
        UserError: a measurement of zeros.
    """
    observed = operator.restrict(torch.ones_like(y)).flatten(1).sum(1).double()
    size = y.double().flatten(1).norm(dim=1)
    if not bool((size > 0).all()):
        raise UserError(
            f"measurement {int((size == 0).nonzero()[0])} is zero everywhere; data consistency is relative to its norm"
        )
    residual = (operator.apply(images.double()) - y.double()).flatten(1).norm(dim=1)
    return residual / size, operator.sigma_n.double() * observed.sqrt() / size


def data_consistency_checks(store: Store, ways: Sequence[Way]) -> list[Check]:
    """A statement for every way to reconstruct the same slices of a store, at most 256."""
    checks = []
    for way in ways:
        found = []
        for rows in random_order(store)[:_SLICES].split(store.block):
            batch = store.batch(rows)
            found.append(torch.stack(data_consistency(way.reconstruct(batch, rows), batch.y, batch.operator)))
        residual, noise = torch.cat(found, dim=1)
        checks.append(data_consistency_check(residual, noise, way.subject, way.what))
    return checks


def data_consistency_check(found: Tensor, noise: Tensor, subject: Subject, what: str) -> Check:
    """The result of `data_consistency` in words; its value is the mean.

    Args:
        what: name of the reconstructions, e.g. "L1-wavelet reconstructions".
    """
    mean, floor = float(found.mean()), float(noise.mean())
    beside = f"; noise alone gives {floor:.1%}" if floor > 0 else ""
    return Check(
        name="data-consistency",
        subject=subject,
        value=mean,
        std=float(found.std() / len(found) ** 0.5) if len(found) > 1 else None,
        status="info",
        sentence=(
            f"{what[0].upper()}{what[1:]} differ from the measured k-space by {mean:.2%} of its norm, averaged over "
            f"{len(found):,} slices{beside}."
        ),
        settings={"slices": len(found), "noise": floor},
    )
