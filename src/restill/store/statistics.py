"""Statistics of the clean images, from measurements alone: standard deviation, and the spectrum of complex images."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import right_broadcast, seeded
from ..corruption import Loss, Operator
from ..estimation import RadialPower
from .samples import Store


def estimate_sigma_data(store: Store) -> float:
    r"""Standard deviation of the clean data, :math:`\sigma_d^2 = var(y) - \sigma_n^2`, from measurements alone.

    Both variances are taken in the domain, where the teacher denoises, over its observed values. The variance of the
    noise there is known where single pixels are observed; elsewhere it is estimated from drawn noise, which leaves
    next to no error over a store.

    Raises:
        UserError: the stated noise is larger than all variation of the measurements.
    """
    count, total, squares, noise, generator = 0.0, 0.0, 0.0, 0.0, seeded("sigma_data")
    for batch in store.iterate():
        y = batch.operator.to_domain(batch.y).double()
        unit = _unit_noise(batch.operator, y, generator)
        count += float((unit > 0).sum())
        total += float(y.sum())
        squares += float(y.square().sum())
        noise += float((right_broadcast(batch.operator.sigma_n.double() ** 2, y) * unit).sum())
    variance = squares / count - (total / count) ** 2
    if variance <= noise / count:
        raise UserError(
            f"{store.path}: the stated noise (variance {noise / count:.3g}) exceeds the variance of the measurements "
            f"({variance:.3g}); state a smaller sigma_n"
        )
    return float((variance - noise / count) ** 0.5)


def _unit_noise(operator: Operator, y: Tensor, generator: torch.Generator) -> Tensor:
    """Squared noise of level 1 in the domain, like `y`: its mean if single pixels are observed, else one draw."""
    if operator.white_domain:
        return operator.seen(torch.ones_like(y))
    white = operator.embed(y)
    return operator.noise(torch.randn(white.shape, generator=generator, dtype=white.dtype)).square()


def estimate_power(store: Store) -> tuple[float, ...] | None:
    """Power spectrum of complex images by radius, from their k-space (`RadialPower`); None for other measurements.

    Raises:
        UserError: the stated noise explains everything that was measured.
    """
    corruption = store.corruption
    if not (corruption.is_complex and corruption.loses(Loss.FREQUENCIES)):
        return None
    power = RadialPower(*store.image_shape[1:])
    for batch in store.iterate():
        power.add(batch.y, batch.operator.restrict(torch.ones_like(batch.y[:, :1])), batch.operator.sigma_n)
    try:
        return power.profile()
    except UserError as error:
        raise UserError(f"{store.path}: {error}") from None
