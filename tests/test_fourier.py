"""The centred Fourier transform, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restill.core.fourier import fft2c, ifft2c

SHAPES = [(2, 3, 8, 8), (7, 6), (1, 6, 7), (3, 2, 5, 9), (1, 1)]


def draw(shape: tuple[int, ...], dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("ours", "theirs"), [(fft2c, np.fft.fft2), (ifft2c, np.fft.ifft2)])
def test_it_is_the_centred_transform_of_numpy(shape: tuple[int, ...], ours, theirs) -> None:  # type: ignore[no-untyped-def]
    x = draw(shape)
    axes = (-2, -1)
    expected = np.fft.fftshift(theirs(np.fft.ifftshift(x.numpy(), axes=axes), norm="ortho"), axes=axes)
    np.testing.assert_allclose(ours(x).numpy(), expected, rtol=0, atol=1e-13)
    single = ours(x.to(torch.complex64))
    assert single.dtype == torch.complex64
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_inverse_is_the_adjoint(shape: tuple[int, ...]) -> None:
    x, k = draw(shape), draw(shape).flip(-1) * (1 + 2j)
    torch.testing.assert_close(ifft2c(fft2c(x)), x, rtol=0, atol=1e-13)
    torch.testing.assert_close(fft2c(ifft2c(x)), x, rtol=0, atol=1e-13)
    inner = [torch.vdot(a.flatten(), b.flatten()) for a, b in ((fft2c(x), k), (x, ifft2c(k)))]
    torch.testing.assert_close(inner[0], inner[1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_a_point_in_the_centre_is_flat_and_a_plane_wave_is_a_point(size: tuple[int, int]) -> None:
    """The definition, written out: `k[u, v]` sums `x[h, w] exp(-2 pi i (u h / H + v w / W))`, both from the centre."""
    height, width = size
    point = torch.zeros(size, dtype=torch.complex128)
    point[height // 2, width // 2] = 1
    torch.testing.assert_close(fft2c(point), torch.full(size, (height * width) ** -0.5, dtype=torch.complex128))
    h, w = torch.arange(height).double() - height // 2, torch.arange(width).double() - width // 2
    wave = torch.exp(2j * torch.pi * (2 * h[:, None] / height - w / width))
    expected = torch.zeros(size, dtype=torch.complex128)
    expected[height // 2 + 2, width // 2 - 1] = (height * width) ** 0.5
    torch.testing.assert_close(fft2c(wave), expected, rtol=0, atol=1e-12)


def test_gradients_and_autocast() -> None:
    x = draw((1, 2, 4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(fft2c, x) and torch.autograd.gradcheck(ifft2c, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(fft2c(x), fft2c(x.detach()), rtol=0, atol=0)
        assert fft2c(x.to(torch.complex64)).dtype == torch.complex64


def test_real_input_is_refused() -> None:
    with pytest.raises(TypeError, match="complex64 or complex128, not"):
        fft2c(torch.zeros(1, 4, 4))
    with pytest.raises(TypeError, match="not torch"):
        ifft2c(torch.zeros(4, 4, dtype=torch.float64))
