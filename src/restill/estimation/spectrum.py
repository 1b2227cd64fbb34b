"""The power spectrum of complex images, from undersampled k-space of several coils."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.fourier import radius
from ..core.tensors import wide_dtype

_LEAST = 1e-3  # of the mean: what noise hides, and is taken away with it, is not known to be smaller


class RadialPower:
    r"""Mean power by radius of frequency, from measurements that come in batches.

    Sensitivities have :math:`\sum |S|^2 = 1`, so that the power of all coils together at a frequency is that of the
    image, blurred as far as they are not constant; noise of level `sigma_n` adds `sigma_n^2` to every channel of every
    coil. A frequency counts where it was measured.

    Args:
        height, width: of k-space.
    """

    def __init__(self, height: int, width: int) -> None:
        self.bins = radius(height, width).round().long()
        self._power = torch.zeros(int(self.bins.max()) + 1, dtype=torch.float64)
        self._count = torch.zeros_like(self._power)

    def add(self, kspace: Tensor, mask: Tensor, sigma_n: Tensor) -> None:
        """Count some slices.

        Args:
            kspace: `[n, 2 coils, H, W]`, 0 where it was not measured.
            mask: True or 1 where it was, `[n, 1, 1 or H, W]`.
            sigma_n: of each slice, `[n]`.
        """
        wide = wide_dtype(kspace.device)
        measured = mask.expand(-1, 1, *kspace.shape[2:]).to(wide)
        noise = kspace.shape[1] * sigma_n.to(wide).square()
        power = kspace.to(wide).square().sum(1, keepdim=True) - noise[:, None, None, None] * measured
        for total, values in ((self._power, power), (self._count, measured)):
            total.index_add_(0, self.bins.flatten(), values.sum((0, 1)).flatten().double().cpu())

    def profile(self) -> tuple[float, ...]:
        """Variance of real and imaginary part of the frequencies of radius 0, 1, 2, ... (`radius`), all above 0.

        A radius that was never measured has the value of the one before.

        Raises:
            UserError: nothing was measured, or noise of the stated level explains all of it.
        """
        frequencies = torch.bincount(self.bins.flatten(), minlength=len(self._power)).double()
        found = torch.where(self._count > 0, self._power / self._count.clamp_min(1) / 2, torch.nan)
        for k in range(1, len(found)):
            if found[k].isnan():
                found[k] = found[k - 1]
        mean = (found * frequencies).sum() / frequencies.sum()
        if not mean > 0:
            raise UserError(
                "the stated noise explains everything that was measured, or the centre of k-space was not "
                "measured; state a smaller sigma_n"
            )
        return tuple(found.clamp_min(_LEAST * mean).tolist())
