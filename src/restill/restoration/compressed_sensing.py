r"""L1-wavelet compressed sensing, the classical reconstruction (Lustig, Donoho and Pauly 2007), for batches of slices.

The image of each slice is the minimiser of

.. math:: \tfrac12 \|A x - y\|^2 + \lambda \|W x\|_1, \qquad \lambda = \mathrm{weight} \cdot \max |W A^H y|,

with an orthonormal wavelet transform `W` of the complex image and `|.|` the modulus of each coefficient, found by FISTA
(Beck and Teboulle 2009). Since `lambda` is relative to the slice, one weight serves slices of any brightness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..core.tensors import right_broadcast, seeded
from ..corruption import Linear, Operator, linear
from ..store import Store
from .wavelets import Wavelets

_BLOCK_VALUES = 1 << 21  # numbers of k-space that are worked on at once
_BATCH = 256  # slices that are read at once


@dataclass(frozen=True)
class CompressedSensing:
    """How slices are reconstructed; called with measurements.

    Attributes:
        weight: of the wavelet coefficients, at least 0, as a share of the largest one of `A^H y`; from 0.00001 (hardly
            any noise) to 0.03 in practice (`choose_weight`).
        iterations: of FISTA, which starts from `A^H y`.
        wavelet: orthonormal, as PyWavelets calls it.
        levels: of the transform, see `Wavelets`.
        lipschitz: at least the largest eigenvalue of `A^H A`, one number or `[n]`: 1 where the coil sensitivity maps
            are normalised, as for every mask; `largest_eigenvalue` finds it for others. The step is one over it.
        cycle_spinning: move the wavelets' grid at random in each iteration, as BART's `pics` does, which removes the
            blocks that a fixed grid leaves (Coifman and Donoho 1995). Without it the minimiser above is approached.

    Raises:
        UserError: a weight below 0, or no iterations.
    """

    weight: float
    iterations: int = 100
    wavelet: str = "db4"
    levels: int | None = None
    lipschitz: float | Tensor = 1.0
    cycle_spinning: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise UserError(f"compressed sensing: weight must be a number of at least 0, not {self.weight}")
        if self.iterations < 1:
            raise UserError(f"compressed sensing: iterations must be at least 1, not {self.iterations}")

    @torch.no_grad()
    def __call__(self, y: Tensor, operator: Operator) -> Tensor:
        """Complex images of slices from their measurements; slices do not influence each other.

        Args:
            y: measurements `[n, ...]`, on the device of the operator, float32 or float64.
            operator: of complex images `[n, 2, H, W]`; only `apply` and `adjoint` are used.

        Returns:
            Images `[n, 2, H, W]` (real and imaginary part), of the dtype of `y`.

        Raises:
            UserError: images that are not complex, no such wavelet, or an operator that is not linear or whose
                `lipschitz` was stated too small.
        """
        applied = linear(operator, "compressed sensing")
        eigenvalue_N = torch.as_tensor(self.lipschitz, dtype=y.dtype, device=y.device).expand(len(y))
        blocks = []
        for index in torch.arange(len(y), device=y.device).split(max(1, _BLOCK_VALUES // math.prod(y.shape[1:]))):
            blocks.append(self._block(y[index], applied.select(index), 1 / eigenvalue_N[index]))
        images = torch.cat(blocks) if blocks else applied.adjoint(y)
        if not bool(images.isfinite().all()):
            raise UserError(
                "compressed sensing diverged; state lipschitz (the largest eigenvalue of A^H A), or check y"
            )
        return images

    def _block(self, y: Tensor, operator: Linear, step_N: Tensor) -> Tensor:
        """FISTA with a constant step (Beck and Teboulle 2009, section 4)."""
        start = operator.adjoint(y)
        if start.ndim != 4 or start.shape[1] != 2:
            raise UserError(f"compressed sensing: images must be complex, [n, 2, H, W], not {list(start.shape)}")
        wavelets = Wavelets((start.shape[2], start.shape[3]), self.wavelet, self.levels)
        threshold_N = self.weight * _modulus(wavelets.forward(start)).amax(dim=(1, 2, 3))
        step, threshold = right_broadcast(step_N, start), right_broadcast(step_N * threshold_N, start)
        x = z = start
        momentum = 1.0
        for shift in self._shifts(wavelets.levels):
            descended = z - step * operator.adjoint(operator.apply(z) - y)
            new = _shrunk(descended, wavelets, threshold, shift)
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            z = new + (momentum - 1) / following * (new - x)
            x, momentum = new, following
        return x

    def _shifts(self, levels: int) -> list[tuple[int, int]]:
        """Places of the wavelets' grid, one for each iteration, random and the same for every slice."""
        if not self.cycle_spinning:
            return [(0, 0)] * self.iterations
        drawn = torch.randint(1 << levels, (self.iterations, 2), generator=seeded("cycle spinning"))
        return [(int(row), int(column)) for row, column in drawn.tolist()]


def reconstruct(store: Store, method: CompressedSensing, advance: Advance = silent) -> Iterator[Tensor]:
    """The reconstructions of all samples of a store of complex images, in order; `advance` is told of every batch.

    Yields:
        Images `[n, 2, H, W]` in normalised units, float32, on the CPU.

    Raises:
        UserError: as `CompressedSensing`.
    """
    for batch in store.iterate(_BATCH):
        yield method(batch.y, batch.operator)
        advance(done=len(batch))


@torch.no_grad()
def largest_eigenvalue(operator: Linear, shape: tuple[int, int, int], iterations: int = 50) -> Tensor:
    """Largest eigenvalue of `A^H A` for images of `shape` `(C, H, W)`, `[n]`, by power iteration.

    It is approached from below, so leave a few percent of room: a `lipschitz` that is too small makes FISTA diverge.
    """
    x = torch.randn(len(operator), *shape, generator=seeded("power iteration")).to(operator.sigma_n.device)
    size_N = x.flatten(1).norm(dim=1)
    for _ in range(iterations):
        x = operator.adjoint(operator.apply(x / right_broadcast(size_N.clamp_min(1e-30), x)))
        size_N = x.flatten(1).norm(dim=1)
    return size_N


def _shrunk(x: Tensor, wavelets: Wavelets, threshold: Tensor, shift: tuple[int, int]) -> Tensor:
    """Proximal operator of `threshold |W x|_1`, a complex soft threshold, `W` on a grid moved by `shift` pixels."""
    coefficients = wavelets.forward(_moved(x, shift))
    factor = (1 - threshold / _modulus(coefficients).clamp_min(torch.finfo(x.dtype).tiny)).clamp_min(0)
    return _moved(wavelets.inverse(factor * coefficients), (-shift[0], -shift[1]))


def _moved(x: Tensor, shift: tuple[int, int]) -> Tensor:
    return torch.roll(x, shift, dims=(-2, -1)) if any(shift) else x


def _modulus(c: Tensor) -> Tensor:
    """Of complex numbers `[n, 2, H, W]`, `[n, 1, H, W]`."""
    return torch.hypot(c[:, :1], c[:, 1:])
