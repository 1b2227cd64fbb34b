r"""Multi-coil MRI: undersampled k-space of complex images, `y = M (F S x + sigma_n eps)`.

The domain is the image grid, through the adjoint. The noise of the measurements is white in k-space; in the domain it
has the covariance :math:`A^H A`. With several coils :math:`A^H A` is not a projection, so white image noise seen
through it has another covariance, :math:`(A^H A)^2`. Noise is therefore drawn in k-space, for noise-free and noisy data
alike: the network is always shown :math:`\tilde A^H (\tilde A x + s\,\epsilon)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.fourier import fft2c, ifft2c
from ...core.tensors import channels_to_complex, complex_to_channels
from ..bases import SamplingOperator


@dataclass(frozen=True)
class MriOperator(SamplingOperator):
    """`A x = M F S x`: complex images `[n, 2, H, W]` to k-space of all coils `[n, 2 coils, H, W]`.

    Real and imaginary parts are channels in turn; `F` is the centred orthonormal Fourier transform. The physics runs in
    complex64 at least, outside autocast.

    Attributes:
        mask: True where k-space was measured, bool `[n, 1, 1, W]` for lines, or `[n, 1, H, W]`.
        maps: coil sensitivities, real and imaginary part last, float `[n, coils, H, W, 2]`, with sum over the coils of
            `|S|^2 = 1` on the support and 0 elsewhere.
    """

    mask: Tensor
    maps: Tensor

    @property
    def _sensitivities(self) -> Tensor:
        return torch.view_as_complex(self.maps)

    def embed(self, d: Tensor) -> Tensor:
        """`F S d`: k-space of all coils, wholly sampled."""
        image = channels_to_complex(_precise(d))
        return complex_to_channels(fft2c(self._sensitivities.to(image.dtype) * image))

    def extract(self, e: Tensor) -> Tensor:
        """`S^H F^-1 e`: the coils' images combined."""
        images = ifft2c(channels_to_complex(_precise(e)))
        combined = (self._sensitivities.to(images.dtype).conj() * images).sum(dim=1, keepdim=True)
        return complex_to_channels(combined)

    def restrict(self, y: Tensor) -> Tensor:
        return torch.where(self.mask, y, 0.0)  # a product would keep the signs of what was not measured

    def condition(self) -> Tensor:
        return self.mask.expand(-1, 2, *self.maps.shape[2:4])


def _precise(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
