"""Coil sensitivity maps against sigpy and against maps that are known exactly; the measured centre; virtual coils."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restill.core.errors import UserError
from restill.core.fourier import fft2c, ifft2c
from restill.core.tensors import seeded
from restill.estimation import calibration_of, calibration_residual, compress_coils, espirit
from restill.estimation.coil_compression import centre_block


def noise_like(x: Tensor, *name: int | str) -> Tensor:
    """Complex white noise, real and imaginary part of standard deviation 1."""
    return 2**0.5 * torch.randn(x.shape, dtype=x.dtype, generator=seeded("noise", *name))


def relative(maps: Tensor) -> Tensor:
    """Normalised, with the phase relative to the first coil."""
    maps = maps / torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    return maps * maps[:, :1].sgn().conj()


def periodic_maps(n: int, coils: int, size: tuple[int, int], modes: int = 3) -> Tensor:
    """Random trigonometric polynomials of `modes` frequencies along each axis: their relations are exact."""
    k = torch.zeros(n, coils, *size, dtype=torch.complex128)
    corner = torch.randn(n, coils, modes, modes, dtype=torch.complex128, generator=seeded("maps", n, coils))
    corner[:, 0, modes // 2, modes // 2] += 10  # the first coil, whose phase is taken, vanishes nowhere
    centre_block(k, (modes, modes)).copy_(corner)
    return ifft2c(k)


def random_images(n: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(n, 1, *size, dtype=torch.complex128, generator=seeded("images", n))


def birdcage(coils: int, size: tuple[int, int]) -> Tensor:
    sim = pytest.importorskip("sigpy.mri.sim")
    return torch.from_numpy(sim.birdcage_maps((coils, *size)))[None]


def phantom(size: tuple[int, int]) -> Tensor:
    return torch.from_numpy(pytest.importorskip("sigpy").shepp_logan(size))[None, None]


@pytest.mark.parametrize("coils", [2, 4, 8])
@pytest.mark.parametrize("size", [(32, 32), (33, 32), (24, 29)], ids=str)
def test_maps_with_exact_relations_are_found_exactly(coils: int, size: tuple[int, int]) -> None:
    """Windows then span (k + modes - 1)^2 < C k^2 dimensions, and the true maps have eigenvalue 1 at every pixel."""
    true = periodic_maps(2, coils, size)
    found = espirit(fft2c(true * random_images(2, size)), (16, 18), kernel=6, threshold=1e-7, crop=0.999)
    assert found.dtype == torch.complex64 and found.shape == true.shape
    assert (found - relative(true)).abs().max() < 2e-4  # found in float32, and two coils are close to dependent


@pytest.mark.parametrize(
    ("coils", "size", "width", "kernel"),
    [(1, (32, 32), 16, 6), (4, (32, 32), 16, 6), (8, (33, 31), 17, 5), (4, (30, 37), 16, 4)],
)
def test_it_agrees_with_sigpy(coils: int, size: tuple[int, int], width: int, kernel: int) -> None:
    """Where its power iterations have converged; its default of 100 is few where two eigenvalues lie close together."""
    app = pytest.importorskip("sigpy.mri.app")
    clean = fft2c(birdcage(coils, size) * phantom(size))
    kspace = (clean + 0.005 * noise_like(clean, coils)).to(torch.complex64)

    def calibrated(iterations: int) -> list[Tensor]:
        options = {"kernel_width": kernel, "max_iter": iterations, "show_pbar": False, "output_eigenvalue": True}
        return [torch.from_numpy(x) for x in app.EspiritCalib(kspace[0].numpy(), width, crop=0, **options).run()]

    earlier, (theirs, eigenvalues) = calibrated(1_000)[0], calibrated(2_000)
    converged = (theirs - earlier).abs().amax(0) < 1e-4
    assert converged.float().mean() > 0.98
    ours = espirit(kspace, (width, width), kernel=kernel, crop=0)[0]
    assert (ours - theirs)[:, converged].abs().max() < 1e-3
    eigenvalues = eigenvalues.reshape(size)
    decided = (eigenvalues - 0.95).abs() > 1e-4
    support = espirit(kspace, (width, width), kernel=kernel)[0].abs().sum(0) > 0
    assert decided.float().mean() > 0.98 and 0.2 < support.float().mean() < 0.95
    assert torch.equal(support[decided], (eigenvalues > 0.95)[decided])


@pytest.mark.parametrize("coils", [4, 8])
def test_birdcage_maps_of_a_full_field(coils: int) -> None:
    """Maps that are smooth but not periodic, so the truth is approached in the inside of the field alone."""
    size = (32, 31)
    image = 1 + random_images(1, size).real * 0.3
    true = birdcage(coils, size)
    maps = espirit(fft2c(true * image), (20, 20), threshold=0.002)
    error = (maps - relative(true)).abs().amax(1)[:, 5:-5, 5:-5]
    assert (maps.abs().sum(1) > 0)[:, 5:-5, 5:-5].all()
    assert error.max() < 0.03 and error.median() < 0.005


@pytest.mark.parametrize("coils", [1, 4, 16])
def test_maps_are_normalised_and_the_first_is_positive(coils: int) -> None:
    size = (24, 25)
    clean = fft2c(birdcage(coils, size) * phantom(size))
    kspace = clean + 0.01 * noise_like(clean)
    maps = espirit(kspace, (14, 14), kernel=4, threshold=0.1)
    energy = (maps.abs() ** 2).sum(1)
    on = energy > 0.5
    assert on.any() and not on.all()
    assert (energy[on] - 1).abs().max() < 1e-5 and energy[~on].max() == 0
    assert maps[:, 0].imag.abs().max() < 1e-6 and maps[:, 0].real.min() > -1e-6
    everywhere = espirit(kspace, (14, 14), kernel=4, threshold=0.1, crop=0)
    assert ((everywhere.abs() ** 2).sum(1) - 1).abs().max() < 1e-5
    torch.testing.assert_close(everywhere.movedim(1, -1)[on], maps.movedim(1, -1)[on], rtol=0, atol=1e-6)
    if coils == 1:
        torch.testing.assert_close(maps[on[:, None]], torch.ones(int(on.sum()), dtype=torch.complex64))


def test_a_batch_is_its_slices_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the chunks of slices and of pixels, and with other signal spaces in each slice."""
    size = (20, 23)
    kspace = fft2c(periodic_maps(5, 3, size) * random_images(5, size))
    kspace = kspace + 10.0 ** -torch.arange(1.0, 6)[:, None, None, None] * noise_like(kspace)
    kspace[3] = 0
    sigma = torch.tensor([0.1, 0.01, 0, 0.0, 0])
    whole = espirit(kspace, (14, 12), kernel=4, crop=0.9, sigma=sigma)
    alone = torch.cat([espirit(kspace[i : i + 1], (14, 12), 4, crop=0.9, sigma=sigma[i]) for i in range(5)])
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-4)
    assert whole[3].abs().max() == 0 and all(whole[i].abs().max() > 0.5 for i in (0, 1, 2, 4))
    monkeypatch.setattr("restill.estimation.sensitivity._SLICE_BYTES", 1 << 18)
    monkeypatch.setattr("restill.estimation.sensitivity._PIXEL_BYTES", 1 << 12)
    torch.testing.assert_close(espirit(kspace, (14, 12), 4, crop=0.9, sigma=sigma), whole, rtol=0, atol=1e-4)


def test_only_the_calibration_block_is_looked_at() -> None:
    size = (24, 24)
    kspace = fft2c(periodic_maps(1, 2, size) * random_images(1, size))
    centre = torch.zeros_like(kspace)
    centre_block(centre, (12, 14)).copy_(centre_block(kspace, (12, 14)))
    torch.testing.assert_close(espirit(kspace, (12, 14)), espirit(centre, (12, 14)), rtol=0, atol=0)


def test_a_known_level_of_noise_keeps_the_maps() -> None:
    """At this level every singular value is above the default threshold: without the level the maps are random."""
    size, block, level = (32, 32), (32, 20), 0.03
    true = birdcage(4, size)
    clean = fft2c(true * phantom(size)).expand(4, -1, -1, -1)
    kspace = clean + level * noise_like(clean)
    there = (phantom(size).real > 0.05)[0, 0]
    blind, told = espirit(kspace, block), espirit(kspace, block, sigma=level)
    errors = [(maps - relative(true)).abs().amax(1)[:, there].median() for maps in (blind, told)]
    assert errors[0] > 0.5 and errors[1] < 0.1
    assert calibration_residual(kspace, blind, block, sigma=level).min() > 0.5
    assert calibration_residual(kspace, told, block, sigma=level).max() < 0.3


@pytest.mark.parametrize("size", [(16, 16), (64, 20)], ids=str)
def test_noise_alone_stays_below_its_edge(size: tuple[int, int]) -> None:
    """20 slices of noise of another level each: no signal space is left in any."""
    level = torch.linspace(0.1, 3, 20, dtype=torch.float64)
    noise = level[:, None, None, None] * noise_like(torch.zeros(20, 4, *size, dtype=torch.complex128))
    assert espirit(noise, size, crop=0, sigma=level).abs().max() == 0
    assert (espirit(noise, size, crop=0, sigma=0.7 * level).abs().sum((1, 2, 3)) > 0).all()


def test_residual_of_right_and_wrong_maps() -> None:
    size, block = (48, 48), (24, 24)
    true = birdcage(4, size).to(torch.complex64)
    clean = fft2c(true * phantom(size).to(torch.complex64))
    maps = espirit(clean, block)
    good = calibration_residual(clean, maps, block)
    assert good.shape == (1,) and good.dtype == torch.float32
    assert 0 < good < 0.12
    noisy = [calibration_residual(clean + s * noise_like(clean), maps, block) for s in (0.02, 0.05, 0.1)]
    assert good < noisy[0] < noisy[1] < noisy[2]
    for wrong in (maps.roll(1, 1), maps[:, [1, 0, 2, 3]], maps.flip(-1), torch.full_like(maps, 0.5)):
        assert calibration_residual(clean, wrong, block) > 0.4


def test_residual_by_its_definition() -> None:
    """In numpy; 0 where the block is all of k-space and the maps are true, 1 for no maps, the noise's share else."""
    size = (21, 20)
    true = relative(periodic_maps(3, 4, size))
    kspace = fft2c(true * random_images(3, size))
    assert calibration_residual(kspace, true, size).max() < 1e-12
    assert calibration_residual(kspace, 0 * true, (9, 8)).eq(1).all()
    assert calibration_residual(0 * kspace, true, (9, 8)).eq(0).all()
    rows, columns = slice(6, 15), slice(6, 14)
    block = np.zeros(kspace.shape, complex)
    block[..., rows, columns] = kspace.numpy()[..., rows, columns]
    axes, s = (-2, -1), true.numpy()
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(block, axes), norm="ortho"), axes)
    through = s * (s.conj() * images).sum(1, keepdims=True)
    back = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(through, axes), norm="ortho"), axes)
    rest = (block - back)[..., rows, columns]
    expected = np.linalg.norm(rest.reshape(3, -1), axis=1) / np.linalg.norm(block.reshape(3, -1), axis=1)
    assert expected.min() > 0.01
    np.testing.assert_allclose(calibration_residual(kspace, true, (9, 8)).numpy(), expected, rtol=1e-6)
    noisy, remains = kspace + 0.5 * noise_like(kspace), 0.5 * 1_260  # a chi-squared energy of 2 x 3 x 420 values
    before, after = (calibration_residual(noisy, true, size, sigma=s).double().square() for s in (0.0, 0.5))
    assert (before * noisy.abs().square().sum((1, 2, 3)) / remains - 1).abs().max() < 5 * 1_260**-0.5
    assert (after * kspace.abs().square().sum((1, 2, 3)) / remains).max() < 6 * 1_260**-0.5  # five, and the whole's
    assert calibration_residual(noise_like(kspace), true, size, sigma=torch.full((3,), 1.5)).eq(1).all()
    noise = noise_like(kspace)  # (C - 1) H W of C H W complex values remain: 1,260 a slice
    share = calibration_residual(noise, true, size).double().square() / (3 / 4)
    assert (share - 1).abs().max() < 5 * (1 / 4 / 1_260) ** 0.5  # a beta variable: variance (1 - p) / (p n)


@pytest.mark.parametrize("coils", [1, 4, 8])
def test_virtual_coils(coils: int) -> None:
    size, block = (20, 21), (11, 10)
    kspace = fft2c(periodic_maps(3, 8, size) * random_images(3, size))
    virtual, matrix = compress_coils(kspace, coils, block)
    assert virtual.shape == (3, coils, *size) and matrix.shape == (3, coils, 8)
    torch.testing.assert_close(matrix @ matrix.mH, torch.eye(coils, dtype=torch.complex128).expand(3, -1, -1))
    torch.testing.assert_close(virtual, torch.einsum("nvc,nchw->nvhw", matrix, kspace))
    for i in range(3):
        values = np.linalg.svd(kspace[i, :, 5:16, 5:15].reshape(8, -1).numpy(), compute_uv=False)
        kept = torch.linalg.vector_norm(virtual[i, :, 5:16, 5:15].flatten(1), dim=1)
        np.testing.assert_allclose(kept.numpy(), values[:coils], rtol=1e-9)
    largest = matrix.gather(-1, matrix.abs().argmax(-1, keepdim=True))
    assert largest.real.min() > 0 and largest.imag.abs().max() < 1e-12
    assert compress_coils(kspace.to(torch.complex64), coils, block).kspace.dtype == torch.complex64


def test_maps_of_virtual_coils_are_virtual_maps() -> None:
    """Nine modes make nine independent coils at most; of 12, nine virtual ones keep everything."""
    size = (24, 24)
    true = periodic_maps(1, 12, size)
    kspace = fft2c(true * random_images(1, size))
    virtual, matrix = compress_coils(kspace, 9, (18, 18))
    torch.testing.assert_close(matrix.mH @ virtual.flatten(2), kspace.flatten(2))
    found = espirit(virtual, (18, 18), kernel=4, threshold=1e-7, crop=0)
    expected = relative((matrix @ true.flatten(2)).unflatten(2, size))
    inner = (found.conj() * expected).sum(1).abs()  # the phase of the first virtual coil may vanish somewhere
    assert (inner - 1).abs().max() < 1e-4


def test_measured_centre() -> None:
    def of(lines: str) -> int:
        return int(calibration_of(torch.tensor([c == "x" for c in lines])))

    assert [of("..xxx..."), of("..xxxx.."), of("..xxxxx."), of("xxxxxxxx")] == [2, 4, 5, 8]
    assert [of("xxxx.xxx"), of("....x..."), of("...xx..."), of("....xxxx")] == [0, 1, 2, 1]
    assert [of("...x..."), of("..xxx.."), of("xxxxxxx"), of("x.xxx.x"), of(".xxxx.."), of("x"), of(".")] == [
        *(1, 3, 7, 3, 4, 1, 0)
    ]
    masks = torch.rand(200, 3, 13, generator=seeded("lines")) < 0.8
    widths = calibration_of(masks)
    assert widths.shape == (200, 3) and len(widths.unique()) > 8
    for mask, width in zip(masks.flatten(0, 1), widths.flatten().tolist(), strict=True):
        fits = [bool(centre_block(mask.expand(1, 1, 1, -1), (1, w)).all()) for w in range(1, 14)]
        assert width == max([w for w, fit in enumerate(fits, 1) if fit], default=0)


def test_the_centre_block_is_that_of_sigpy() -> None:
    resize = pytest.importorskip("sigpy").resize
    for height, width in ((8, 7), (9, 12)):
        kspace = random_images(2, (height, width))
        for size in ((height, width), (4, 5), (5, 4), (1, 1)):
            assert np.array_equal(centre_block(kspace, size).numpy(), resize(kspace.numpy(), (2, 1, *size)))


def test_mistakes_are_one_line() -> None:
    kspace = torch.ones(2, 3, 16, 16, dtype=torch.complex64)
    for call, words in (
        (lambda: espirit(kspace, (17, 16)), "calibration: .* does not fit k-space"),
        (lambda: espirit(kspace, (16, 0)), "calibration: "),
        (lambda: espirit(kspace, (16, 5)), "kernel: 6 does not fit"),
        (lambda: compress_coils(kspace, 4, (8, 8)), "coils: 3 coils cannot give 4 virtual coils"),
        (lambda: compress_coils(kspace, 0, (8, 8)), "coils: 3 coils cannot give 0"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
    kspace[1, 2, 8, 8] = torch.nan
    with pytest.raises(UserError, match="slice 1: the centre of k-space holds NaN"):
        espirit(kspace, (8, 8))
