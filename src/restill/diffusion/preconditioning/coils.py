"""The posterior of multi-coil MRI with half of the Fourier transforms: a shortcut for `general`."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.fourier import AXES
from ...core.tensors import channels_to_complex, complex_to_channels
from ...corruption import MriOperator
from .posterior import Approximated, posterior
from .prior import Shrinkage


@posterior.register
def _(operator: MriOperator, given: Shrinkage, d: Tensor, x: Tensor) -> Approximated:
    """Frequencies are the coordinates, origin first, so that nothing is shifted.

    Of coils along the lines' axis only, where lines are masked: the mask commutes with the transform of the other.
    """
    wide = d.dtype if d.dtype in (torch.float32, torch.float64) else torch.float32
    maps = torch.view_as_complex(operator.maps).to(wide.to_complex())
    mask, half = (torch.fft.ifftshift(part, AXES) for part in (operator.mask, (1 + given.ratio).rsqrt()))
    masked = AXES[1:] if mask.shape[-2] == 1 else AXES

    def apply(k: Tensor) -> Tensor:
        shrunk = half * k
        coils = _image(torch.where(mask, _frequencies(maps * _image(shrunk), masked), 0.0), masked)
        return k - half * (shrunk - _frequencies((maps.conj() * coils).sum(dim=1, keepdim=True)))

    def there(image: Tensor) -> Tensor:
        return _frequencies(channels_to_complex(image.to(wide)))

    def back(k: Tensor) -> Tensor:
        return complex_to_channels(_image(k))

    return Approximated(apply, there, back)


def _frequencies(x: Tensor, axes: tuple[int, ...] = AXES) -> Tensor:
    return torch.fft.fftn(x, dim=axes, norm="ortho")


def _image(k: Tensor, axes: tuple[int, ...] = AXES) -> Tensor:
    return torch.fft.ifftn(k, dim=axes, norm="ortho")
