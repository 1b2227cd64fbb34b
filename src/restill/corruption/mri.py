r"""Multi-coil MRI: undersampled k-space of complex images, `y = M (F S x + sigma_n eps)`.

The domain is the image grid, through the adjoint. The noise of the measurements is white in k-space; in the domain it
has the covariance :math:`A^H A`, and with several coils :math:`A^H A` is no projection, so that white noise of the
image seen through it, :math:`(A^H A)^2`, is another. Noise is therefore drawn in k-space, for noise-free and noisy data
alike: the network is always shown :math:`\tilde A^H (\tilde A x + s\,\epsilon)`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.fourier import AXES, fft2c, ifft2c
from ..core.tensors import channels_to_complex, complex_to_channels
from .chebyshev import Polynomial, inverse, inverse_root
from .coil_maps import BANK, birdcage, refined
from .corruption import Corruption, number, one_of, whole
from .embedded import Embedded
from .mri_lines import PATTERNS, fewer
from .operator import Operator
from .prior import Shrinkage

_STEPS = 8  # applications of A^H A in a polynomial
_LOW = 0.02  # eigenvalue down to which it is accurate
MOST_MASKS = 4096  # that a law keeps of measured ones


@dataclass(frozen=True)
class MriOperator(Operator):
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

    def apply(self, x: Tensor) -> Tensor:
        return self.restrict(self.embed(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.extract(self.restrict(y))

    def embed(self, d: Tensor) -> Tensor:
        """`F S d`: k-space of all coils, wholly sampled."""
        image = channels_to_complex(_precise(d))
        return complex_to_channels(fft2c(self._sensitivities.to(image.dtype) * image))

    def extract(self, e: Tensor) -> Tensor:
        """`S^H F^-1 e`: the coils' images combined."""
        images = ifft2c(channels_to_complex(_precise(e)))
        combined = (self._sensitivities.to(images.dtype).conj() * images).sum(dim=1, keepdim=True)
        return complex_to_channels(combined)

    def to_domain(self, y: Tensor) -> Tensor:
        return self.adjoint(y)

    def seen(self, d: Tensor) -> Tensor:
        return self.adjoint(self.embed(d))

    def inverse(self, b: Tensor, shrinkage: Shrinkage) -> Tensor:
        """By a polynomial: with several coils `A^H A` is no projection. With `P^{1/2}` before and after, and a white
        prior, it is the regularised SENSE reconstruction (Pruessmann et al. 2001)."""
        return self._polynomial(inverse, b, shrinkage)

    def inverse_root(self, f: Tensor, shrinkage: Shrinkage) -> Tensor:
        return self._polynomial(inverse_root, f, shrinkage)

    def _polynomial(self, of: Polynomial, x: Tensor, shrinkage: Shrinkage) -> Tensor:
        """Of `T` (`Shrinkage`), with frequencies as coordinates, origin first: no shifts, half of the transforms.

        Of coils along the lines' axis only, where lines are masked: the mask commutes with the transform of the other.
        """
        with torch.autocast(x.device.type, enabled=False):
            start = _frequencies(channels_to_complex(_precise(x)))
            maps = self._sensitivities.to(start.dtype)
            mask, half = (torch.fft.ifftshift(part, AXES) for part in (self.mask, (1 + shrinkage.ratio).rsqrt()))
            masked = AXES[1:] if mask.shape[-2] == 1 else AXES

            def apply(k: Tensor) -> Tensor:
                shrunk = half * k
                coils = _image(torch.where(mask, _frequencies(maps * _image(shrunk), masked), 0.0), masked)
                return k - half * (shrunk - _frequencies((maps.conj() * coils).sum(dim=1, keepdim=True)))

            return complex_to_channels(_image(of(apply, start, _LOW, _STEPS)))

    def predicted(self, d: Tensor) -> Tensor:
        return self.apply(d)

    def observed(self, y: Tensor) -> Tensor:
        return self.restrict(y)

    def measured(self, e: Tensor) -> Tensor:
        return self.restrict(e)

    def whiten(self, residual: Tensor, shrinkage: Shrinkage) -> Tensor:
        """By lines: a line that is shown has the deviation of its noise, another that of its frequency in images.

        Residuals of all coils together weigh as much as those of an image.
        """
        scale = torch.where(self.mask, 1 + 1 / shrinkage.ratio, torch.ones_like(shrinkage.ratio))
        return (scale * self.maps.shape[1] / shrinkage.variance).sqrt() * residual

    def noise(self, e: Tensor) -> Tensor:
        return self.adjoint(e)

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (2 * self.maps.shape[1], *shape[1:])

    def noise_variance(self, d: Tensor) -> Tensor:
        share = self.mask.flatten(1).to(d).mean(1)[:, None, None, None]
        return (share * self.maps.to(d).square().sum(dim=(1, -1))[:, None]).expand_as(d)

    def restrict(self, y: Tensor) -> Tensor:
        return torch.where(self.mask, y, 0.0)  # a product would keep the signs of what was not measured

    def condition(self) -> Tensor:
        return self.mask.expand(-1, 2, *self.maps.shape[2:4])

    def whole(self) -> MriOperator:
        return dataclasses.replace(self, mask=torch.ones_like(self.mask))

    def augmented(self, move: Callable[[Tensor], Tensor]) -> MriOperator:
        raise UserError("teacher.augment must be 0 for kind mri: k-space does not flip and turn as its images do")


def _frequencies(x: Tensor, axes: tuple[int, ...] = AXES) -> Tensor:
    return torch.fft.fftn(x, dim=axes, norm="ortho")


def _image(k: Tensor, axes: tuple[int, ...] = AXES) -> Tensor:
    return torch.fft.ifftn(k, dim=axes, norm="ortho")


def _precise(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


@dataclass(frozen=True, kw_only=True)
class Mri(Corruption, kind="mri"):
    """Undersampled Cartesian k-space of several coils (RSD, section 4.3; Ambient MRI, section 3).

    What the network is shown lacks further lines: a measurement of acceleration R is shown at R + delta.

    Attributes:
        sigma_n: of the real and of the imaginary part of each sample of k-space, where images have magnitudes up to 1.
        acceleration: R, the width over the number of measured lines, at least 1, or several of which each sample draws
            one.
        acs: centre lines that are always measured and never taken away.
        delta: what the further mask adds to the acceleration, above 0; 1 in the papers. More of it leaves the teacher
            more lines to learn from, and shows it less.
        pattern: "random" or "equispaced" lines, or "files" for masks of measurements.
        coils: number of (virtual) coils.
        maps: "birdcage", a ring of coils rotated at random, or coarse maps of measurements `[k, coils, h, w, 2]`.
        masks: of pattern "files", of which each sample draws one, bool `[k, 1, 1 or H, W]`.
    """

    is_complex: ClassVar[bool] = True
    acceleration: float | tuple[float, ...] = 4.0
    acs: int = 4
    delta: float = 1.0
    pattern: str = "random"
    coils: int = 4
    maps: str | Mapping[str, Any] | Embedded = "birdcage"
    masks: Mapping[str, Any] | Embedded | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.acceleration, list):
            object.__setattr__(self, "acceleration", tuple(self.acceleration))
        if not self.accelerations:
            raise UserError("corruption.acceleration is an empty list; state one, or several")
        for acceleration in self.accelerations:
            number("acceleration", acceleration, 1, math.inf)
        whole("acs", self.acs, 1, " of centre lines")
        number("delta", self.delta, 0)
        if self.delta == 0:
            raise UserError(
                "corruption.delta must lie above 0: without further masks nothing is learned of other lines"
            )
        whole("coils", self.coils, 1, "")
        one_of("pattern", self.pattern, (*PATTERNS, "files"))
        for name in ("maps", "masks"):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, Embedded.read(value, f"corruption.{name}"))
        if (self.pattern == "files") != isinstance(self.masks, Embedded):
            raise UserError("corruption.pattern files goes with corruption.masks, as `restill import` writes both")
        self._check_maps()

    def _check_maps(self) -> None:
        if isinstance(self.maps, str):
            one_of("maps", self.maps, ("birdcage",))
            return
        found: tuple[int, ...] = self.maps.array.shape if isinstance(self.maps, Embedded) else ()
        if len(found) != 5 or found[1] != self.coils or found[-1] != 2 or math.prod(found) > BANK:
            raise UserError(
                f"corruption.maps must be [k, {self.coils} coils, h, w, 2], at most {BANK:,} numbers, not {list(found)}"
            )

    @property
    def accelerations(self) -> tuple[float, ...]:
        """All accelerations that may be drawn."""
        return self.acceleration if isinstance(self.acceleration, tuple) else (self.acceleration,)

    def observation_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(2 coils, H, W)`. Raises UserError for images that are not complex, or too narrow."""
        if len(shape) != 3 or shape[0] != 2:
            raise UserError(f"corruption.kind mri: measures complex images [2, H, W], not {list(shape)}")
        if isinstance(self.masks, Embedded):
            found = self.masks.array.shape
            if len(found) != 4 or found[1] != 1 or found[2] not in (1, shape[1]) or found[3] != shape[2]:
                raise UserError(
                    f"corruption.masks: are of shape {list(found)}; images {list(shape)} need [k, 1, 1 or {shape[1]}, "
                    f"{shape[2]}]"
                )
        elif max(self.accelerations) * self.acs >= shape[2]:
            raise UserError(
                f"corruption.acs {self.acs} of {shape[2]} lines leaves acceleration {max(self.accelerations):g} no "
                f"other line, so that none is ever learned; state fewer than {shape[2] / max(self.accelerations):g}"
            )
        return (2 * self.coils, *shape[1:])

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.observation_shape(shape)

    def condition_channels(self, shape: tuple[int, ...]) -> int:
        """The mask, as often as an image has channels (Ambient MRI)."""
        return 2

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> MriOperator:
        self.observation_shape(shape)
        sigma_n, mask = self.draw_sigma_n(n, generator), self._draw_mask(n, shape[2], generator)
        return MriOperator(sigma_n, mask, self._draw_maps(n, shape[1], shape[2], generator))

    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> MriOperator:
        return MriOperator(parameters["sigma_n"], parameters["mask"], parameters["maps"])

    def further(self, operator: Operator, generator: torch.Generator) -> MriOperator:
        assert isinstance(operator, MriOperator)
        return dataclasses.replace(operator, mask=fewer(operator.mask, self.acs, self.delta, generator))

    def _draw_mask(self, n: int, width: int, generator: torch.Generator) -> Tensor:
        if isinstance(self.masks, Embedded):
            return self.masks.drawn(n, generator)
        rates = torch.tensor(self.accelerations, device=generator.device)
        chosen = torch.randint(len(rates), (n,), generator=generator, device=generator.device)
        return PATTERNS[self.pattern](rates[chosen], width, self.acs, generator)

    def _draw_maps(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        if isinstance(self.maps, Embedded):
            return refined(self.maps.drawn(n, generator), height, width)
        rotation = torch.rand(n, generator=generator, device=generator.device) * (2 * math.pi)
        return birdcage(rotation, self.coils, height, width)
