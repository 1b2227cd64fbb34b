r"""How far measurements lie from images that are measured in the same way, :math:`|A_i x_j - y_i|^2`.

If the operators differ only in their noise or in what they do not observe, each image is measured once and the work is
one or two matrix products. Otherwise (a kernel or coil sensitivities for each sample) every operator is applied to
every image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..corruption import Operator

_NUMBERS = 1 << 22  # in the largest intermediate tensor


def alike(operator: Operator) -> bool:
    """Whether the operators differ only in their noise."""
    fixed = [value for name, value in operator.parameters().items() if name != "sigma_n"]
    return all(bool((value == value[:1]).all()) for value in fixed)


def observed_numbers(y: Tensor, operator: Operator) -> Tensor:
    """How many numbers of each measurement `[n, ...]` were observed, `[n]`."""
    shown = _observed(y, operator)
    if shown is None:
        return torch.full((len(y),), float(y[0].numel()), dtype=y.dtype, device=y.device)
    return shown.flatten(1).sum(1).to(y)


def _observed(y: Tensor, operator: Operator) -> Tensor | None:
    """Which numbers of measurements were observed, bool like `y`; None where all were.

    `Operator.missing` cannot say this of k-space: it describes the domain, where nothing is missing.
    """
    shown = operator.restrict(torch.ones_like(y)) != 0
    return None if bool(shown.all()) else shown


def squared_differences(y: Tensor, operator: Operator, images: Tensor) -> Tensor:
    """Squared distances over what was observed, `[n, m]`.

    Args:
        y: normalised measurements `[n, ...]`, as they were measured, 0 where nothing was.
        operator: what measured each.
        images: `[m, C, H, W]`, on the same device and of the same dtype.
    """
    whole = operator.whole()
    if not alike(whole):
        rows = max(1, _NUMBERS // (len(images) * y[0].numel()))
        parts = torch.arange(len(y), device=y.device).split(rows)
        some = images.split(max(1, _NUMBERS // y[0].numel()))
        blocks = [[_each(y[index], operator.select(index), part) for part in some] for index in parts]
        return torch.cat([torch.cat(row, dim=1) for row in blocks])
    measured = torch.cat([_by_first(whole, part) for part in images.split(max(1, _NUMBERS // images[0].numel()))])
    mean = measured.mean(dim=0)  # taken from both, so that the products keep their digits
    a, b = y.flatten(1) - mean, measured - mean
    shown = _observed(y, operator)
    if shown is None:
        squares = b.square().sum(1).expand(len(a), -1)
    else:
        shown = shown.flatten(1).to(y)
        a, squares = a * shown, shown @ b.square().T
    return torch.addmm(squares, a, b.T, alpha=-2).add_(a.square().sum(1)[:, None]).clamp_(min=0)


def _by_first(operator: Operator, images: Tensor) -> Tensor:
    """Images as the first of the operators measures them, without noise, `[m, d]`."""
    first = torch.zeros(len(images), dtype=torch.int64, device=operator.sigma_n.device)
    return operator.select(first).apply(images).flatten(1)


def _each(y: Tensor, operator: Operator, images: Tensor) -> Tensor:
    """Squared distances `[n, m]`, where every measurement has an operator of its own."""
    rows = torch.arange(len(y), device=operator.sigma_n.device).repeat_interleave(len(images))
    measured = operator.select(rows).apply(images.repeat(len(y), *(1,) * (images.ndim - 1)))
    return (measured.unflatten(0, (len(y), len(images))) - y[:, None]).flatten(2).square().sum(dim=2)
