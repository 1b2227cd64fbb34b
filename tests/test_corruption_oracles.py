"""Operators and masks against scipy, scikit-image, Pillow, numpy and closed forms."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.signal
import torch
from skimage.transform import downscale_local_mean
from torch import Tensor

from custom_corruptions import RandomMask
from operators_list import fewer, more, random
from restill.corruption import Blur, Corruption, Downsampling, Embedded, Function, Mask
from restill.corruption.downsampling import METHODS, smooth_inverse
from restill.corruption.kernels import gaussian, motion

MODES = {"reflect": "mirror", "circular": "wrap", "zero": "constant"}
PADS = {"reflect": "reflect", "circular": "wrap", "zero": "constant"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(*shape: int) -> Tensor:
    return torch.from_numpy(random(*shape, seed=5))


def masks(law: Corruption, n: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    mask = law.draw(n, shape, generator(seed)).condition()
    assert mask is not None
    return mask


@pytest.mark.parametrize("boundary", MODES)
@pytest.mark.parametrize(("size", "std"), [(9, 2.0), (5, 0.7), (11, 4.0)])
def test_gaussian_blur_against_scipy(boundary: str, size: int, std: float) -> None:
    x = picture(2, 3, 13, 11)
    ours = Blur(size=size, std=std, boundary=boundary).draw(2, (3, 13, 11), generator()).apply(x)
    theirs = scipy.ndimage.gaussian_filter(x.numpy(), std, mode=MODES[boundary], radius=size // 2, axes=(2, 3))
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)  # the kernel is kept in float32
    impulse = np.zeros((size, size))
    impulse[size // 2, size // 2] = 1
    exact = scipy.ndimage.gaussian_filter(impulse, std, mode="constant", radius=size // 2)
    np.testing.assert_allclose(gaussian(size, std).numpy(), exact, atol=1e-15)


@pytest.mark.parametrize("boundary", PADS)
@pytest.mark.parametrize("sides", [(3, 7), (5, 1), (9, 11)])
def test_convolution_with_a_lopsided_kernel_against_scipy(boundary: str, sides: tuple[int, int]) -> None:
    kernel = random(*sides).astype(np.float32)
    law = Blur(kernel=Embedded(kernel), boundary=boundary)
    x = picture(2, 2, 9, 11)
    ours = law.draw(2, (2, 9, 11), generator()).apply(x).numpy()
    margins = [(side // 2, side // 2) for side in sides]
    for i, j in np.ndindex(2, 2):
        padded = np.pad(x[i, j].numpy(), margins, mode=PADS[boundary])
        theirs = scipy.signal.convolve2d(padded, kernel.astype(np.float64), mode="valid")
        np.testing.assert_allclose(ours[i, j], theirs, rtol=1e-12)


def test_an_impulse_is_blurred_to_the_kernel() -> None:
    """Not to its mirror image, as a correlation would."""
    kernel = random(5, 3).astype(np.float32)
    x = torch.zeros(1, 1, 11, 9, dtype=torch.float64)
    x[0, 0, 4, 5] = 1
    y = Blur(kernel=Embedded(kernel)).draw(1, (1, 11, 9), generator()).apply(x)
    np.testing.assert_array_equal(y[0, 0, 2:7, 4:7].numpy(), kernel)
    assert (y > 0).sum() == kernel.size


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_block_average_against_scikit_image_and_numpy(factor: int) -> None:
    x = picture(2, 3, 3 * factor, 5 * factor)
    ours = Downsampling(factor=factor).draw(2, tuple(x.shape[1:]), generator()).apply(x).numpy()
    np.testing.assert_allclose(ours, downscale_local_mean(x.numpy(), (1, 1, factor, factor)), rtol=1e-12)
    np.testing.assert_allclose(ours, x.numpy().reshape(2, 3, 3, factor, 5, factor).mean((3, 5)), rtol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("blocks", [(1, 2), (2, 3), (6, 8)])
def test_bicubic_reduction_against_pillow(factor: int, blocks: tuple[int, int]) -> None:
    """Everywhere, the borders included, to the precision of Pillow's float32."""
    x = picture(1, 1, blocks[0] * factor, blocks[1] * factor)
    law = Downsampling(factor=factor, method="bicubic")
    ours = law.draw(1, tuple(x.shape[1:]), generator()).apply(x)[0, 0].numpy()
    image = PIL.Image.fromarray(x[0, 0].numpy().astype(np.float32))
    theirs = np.asarray(image.resize((blocks[1], blocks[0]), PIL.Image.Resampling.BICUBIC))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    if blocks == (6, 8):
        assert np.abs(ours - downscale_local_mean(x[0, 0].numpy(), (factor, factor))).max() > 0.02  # it could fail


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("factor", "size"), [(2, 8), (3, 15), (4, 16)])
def test_the_inverse_of_a_reduction_is_the_smoothest(method: str, factor: int, size: int) -> None:
    """`U y` is measured as `y`, and nothing that the reduction does not see makes it likelier, whatever the mean is."""
    reduction = METHODS[method](size, factor)
    lifted = smooth_inverse(reduction)
    np.testing.assert_allclose(reduction @ lifted, np.eye(size // factor), atol=1e-12)
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    precision = np.linalg.inv(np.exp(-distance / size))
    precision -= np.outer(precision.sum(0), precision.sum(0)) / precision.sum()  # the likeliest mean is taken off
    np.testing.assert_allclose(lifted.sum(1), 1, atol=1e-12)  # a flat image is the smoothest of all
    unseen = scipy.linalg.null_space(reduction.numpy())
    gradient = unseen.T @ precision @ lifted.numpy()
    assert np.abs(gradient).max() < 1e-9 * np.abs(precision).max()
    blocks = np.linalg.pinv(reduction.numpy())  # the one of least norm is less smooth
    assert np.trace(blocks.T @ precision @ blocks) > 1.05 * np.trace(lifted.numpy().T @ precision @ lifted.numpy())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sigma_n", [0.0, 0.1])
def test_measurements_are_lifted_by_the_smoothest_inverse(method: str, sigma_n: float) -> None:
    """Of rows and of columns; with noise the network is given the same image, which is measured in the domain."""
    operator = Downsampling(factor=3, method=method, sigma_n=sigma_n).draw(2, (1, 6, 9), generator())
    y = picture(2, 1, 2, 3)
    rows, columns = (smooth_inverse(METHODS[method](size, 3)) for size in (6, 9))
    torch.testing.assert_close(operator.to_image(y), rows @ y @ columns.T, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(operator.lift(operator.to_domain(y)), rows @ y @ columns.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [fewer, more])
def test_the_image_of_a_users_measurement_is_the_pseudo_inverse(function: object) -> None:
    name = f"listed-{function.__name__}"  # type: ignore[attr-defined]
    operator = Function(name=name).draw(1, (1, 7, 8), generator())
    basis = torch.eye(56, dtype=torch.float64).view(56, 1, 7, 8)
    dense = operator.apply(basis).flatten(1).T.numpy()
    y = picture(3, 1, *operator.apply(basis[:1]).shape[2:])
    theirs = y.flatten(1).numpy() @ np.linalg.pinv(dense).T
    np.testing.assert_allclose(operator.from_domain(y).flatten(1).numpy(), theirs, atol=1e-4)


@pytest.mark.parametrize("function", [fewer, more])
def test_gradients_of_the_pseudo_inverse_are_its_transpose(function: object) -> None:
    """Against numpy, of every entry: backward, and backward again through `apply` and `adjoint`."""
    name = f"listed-{function.__name__}"  # type: ignore[attr-defined]
    operator = Function(name=name).draw(1, (1, 7, 8), generator())
    basis = torch.eye(56, dtype=torch.float64).view(56, 1, 7, 8)
    dense = operator.apply(basis).flatten(1).T.numpy()
    y = torch.zeros(56, 1, *operator.apply(basis[:1]).shape[2:], dtype=torch.float64, requires_grad=True)
    (got,) = torch.autograd.grad((operator.lift(y) * basis).sum(), y)
    np.testing.assert_allclose(got.flatten(1).numpy(), np.linalg.pinv(dense), atol=1e-4)
    (got,) = torch.autograd.grad((operator.adjoint(y) * basis).sum(), y)
    np.testing.assert_allclose(got.flatten(1).numpy(), dense.T, atol=1e-12)
    x = torch.zeros(len(dense), 1, 7, 8, dtype=torch.float64, requires_grad=True)
    units = torch.eye(len(dense), dtype=torch.float64).view(len(dense), *y.shape[1:])
    (got,) = torch.autograd.grad((operator.apply(x) * units).sum(), x)
    np.testing.assert_allclose(got.flatten(1).numpy(), dense, atol=1e-12)


@pytest.mark.parametrize("length", [2, 4, 6])
def test_motion_along_rows_and_columns_in_closed_form(length: int) -> None:
    """A whole number of pixels: each pixel passed has `1 / length`, the two at the ends half of that."""
    line = np.zeros(9)
    line[4 - length // 2 : 5 + length // 2] = 1 / length
    line[[4 - length // 2, 4 + length // 2]] /= 2
    across, down, back = motion(9, length, torch.tensor([0.0, 90.0, 180.0])).numpy()
    expected = np.zeros((9, 9))
    expected[4] = line
    for kernel, theirs in ((across, expected), (down, expected.T), (back, expected)):
        np.testing.assert_allclose(kernel, theirs, atol=1e-12)


def test_motion_at_any_angle() -> None:
    """Sum 1, balanced about the middle, of the stated length and direction (counter-clockwise), and no longer."""
    angles, length = torch.linspace(0, 350, 36, dtype=torch.float64), 7.3
    kernels = motion(11, length, angles).numpy()
    position = np.arange(11) - 5.0
    columns, rows = np.meshgrid(position, -position)
    for angle, kernel in zip(np.deg2rad(angles.numpy()), kernels, strict=True):
        assert kernel.min() >= 0 and abs(kernel.sum() - 1) < 1e-12
        along = columns * np.cos(angle) + rows * np.sin(angle)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        assert abs((kernel * along).sum()) < 1e-12 and abs((kernel * across).sum()) < 1e-12
        # bilinear sharing adds at most 1/4 per axis to the variance length^2 / 12 of a line
        assert 0 <= (kernel * along**2).sum() - length**2 / 12 < 0.51
        assert (kernel * across**2).sum() < 0.51
        assert np.abs(along[kernel > 0]).max() < length / 2 + 1.5 and np.abs(across[kernel > 0]).max() < 1.5
    np.testing.assert_allclose(motion(5, 0, torch.zeros(1))[0], np.pad([[1.0]], 2), atol=1e-15)


@pytest.mark.parametrize(("length", "angle"), [(3.7, 20.0), (6.0, 45.0)])
def test_motion_is_the_integral_along_its_path(length: float, angle: float) -> None:
    """Of bilinear weights, by 20,000 points: to 0.003, where one point for each pixel passed is off by 0.015."""
    along = (np.arange(20_000) + 0.5) / 20_000 - 0.5
    column, row = 4 + length * along * np.cos(np.deg2rad(angle)), 4 - length * along * np.sin(np.deg2rad(angle))
    weights = [np.maximum(1 - np.abs(at[:, None] - np.arange(9)), 0) for at in (row, column)]
    expected = weights[0].T @ weights[1] / len(along)
    found = motion(9, length, torch.tensor([angle], dtype=torch.float64))[0].numpy()
    assert np.abs(found - expected).max() < 0.003


def test_a_stated_motion_has_its_length_and_angle() -> None:
    """Down by 4 pixels in closed form; without a length it spans the kernel, from the first pixel to the last."""

    def kernel(**more: float) -> np.ndarray:
        return Blur(kernel="motion", size=9, **more).draw(2, (1, 9, 9), generator()).kernel.double().numpy()

    line = np.array([0, 0, 0.5, 1, 1, 1, 0.5, 0, 0]) / 4
    down = np.zeros((9, 9))
    down[:, 4] = line
    np.testing.assert_allclose(kernel(length=4, angle=90), [down, down], atol=1e-7)
    whole = np.zeros((9, 9))
    whole[4] = np.array([0.5, *[1] * 7, 0.5]) / 8
    np.testing.assert_allclose(kernel(angle=0), [whole, whole], atol=1e-7)
    np.testing.assert_array_equal(kernel(angle=30), kernel(length=8, angle=30))


def test_motion_angles_are_uniform() -> None:
    """n = 4,000 kernels of 3 pixels: the mean one is unchanged by a quarter turn, within 5 standard errors."""
    law, n = Blur(kernel="motion", size=3), 4000
    kernels = law.draw(n, (1, 3, 3), generator()).kernel.double()
    turned = kernels.rot90(1, (1, 2))
    error = (kernels - turned).std(0) / n**0.5
    assert ((kernels - turned).mean(0).abs() <= 5 * error + 1e-9).all() and error.max() > 1e-3


@pytest.mark.parametrize("law", [Mask(p=0.6, delta=0.2), RandomMask(p=0.6, delta=0.2)], ids=["mask", "custom-mask"])
def test_single_pixels_are_missing_independently(law: Corruption) -> None:
    """n = 40,000 pixels: shares 1 - p and (1 - p)(1 - delta), neighbours uncorrelated, within 5 standard errors."""
    n = 40_000
    operator = law.draw(4, (1, 100, 100), generator())
    further = law.further(operator, generator(1))
    for drawn, share in ((operator, 0.4), (further, 0.32)):
        mask = drawn.condition()
        assert mask is not None
        mask = mask.double()
        assert abs(mask.mean() - share) < 5 * (share * (1 - share) / n) ** 0.5
        for axis in (0, 2, 3):
            z = mask - share
            assert abs((z * z.roll(1, axis)).mean()) < 5 * share * (1 - share) / n**0.5


@pytest.mark.parametrize("pattern", ["pixels", "stripes", "dust", "box"])
def test_a_mask_for_each_channel_or_one_for_all(pattern: str) -> None:
    one = masks(Mask(pattern=pattern, p=0.5), 50, (3, 16, 12))
    assert (one == one[:, :1]).all() and not (one == one[:1]).all()
    each = masks(Mask(pattern=pattern, p=0.5, per_channel=True), 50, (3, 16, 12))
    assert each.shape == one.shape == (50, 3, 16, 12)
    for a, b in ((0, 1), (1, 2), (0, 2)):
        same = (each[:, a] == each[:, b]).flatten(1).all(1).double().mean()
        assert same < 0.2  # boxes have 8 * 5 places to be


@pytest.mark.parametrize("pattern", ["box", "centre-box"])
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.8])
def test_boxes(pattern: str, rate: float) -> None:
    """One whole box of the image's proportions; n = 2,000 draws: all places alike often, within 5 standard errors."""
    n, height, width = 2000, 12, 9
    missing = ~masks(Mask(pattern=pattern, p=rate), n, (1, height, width))[:, 0]
    sides = round(rate**0.5 * height), round(rate**0.5 * width)
    assert (missing.flatten(1).sum(1) == sides[0] * sides[1]).all()
    for axis, side, length in ((2, sides[0], height), (1, sides[1], width)):
        covered = missing.any(axis)
        assert (covered.sum(1) == side).all()
        first = covered.int().argmax(1)
        assert all(row[start : start + side].all() for row, start in zip(covered, first.tolist(), strict=True))
        places = length - side + 1
        if pattern == "centre-box":
            assert (first == places // 2).all()
            continue
        counts = torch.bincount(first, minlength=places)
        assert len(counts) == places
        assert (abs(counts / n - 1 / places) <= 5 * ((1 / places) * (1 - 1 / places) / n) ** 0.5).all()


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_stripes_are_whole_columns(rate: float, size: int) -> None:
    """n = 3,000 draws: the mean share of missing columns within 5 standard errors, everywhere alike."""
    n, width = 3000, 20
    missing = ~masks(Mask(pattern="stripes", p=rate, size=size), n, (1, 7, width))[:, 0]
    assert (missing == missing[:, :1]).all()
    columns = missing[:, 0].double()
    assert abs(columns.mean() - rate) < 5 * columns.mean(1).std() / n**0.5
    assert (abs(columns.mean(0) - rate) < 5 * (rate * (1 - rate) / n) ** 0.5).all()
    assert shortest_run(missing[:, 0]) == size


def shortest_run(missing: Tensor) -> int:
    """Length of the shortest run of missing columns that touches no border."""
    runs = [len(run) for row in missing.int().tolist() for run in "".join(map(str, row)).strip("1").split("0")]
    return min(length for length in runs if length)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_dust_covers_its_share(size: int) -> None:
    """n = 1,000 draws: within 5 standard errors of the mean, borders included; 1 pixel: as single pixels."""
    n, rate = 1000, 0.3
    missing = (~masks(Mask(pattern="dust", p=rate, size=size), n, (1, 15, 18))[:, 0]).double()
    share = missing.mean((1, 2))
    assert abs(share.mean() - rate) < 5 * share.std() / n**0.5
    for pixel in ((0, 0), (14, 17), (7, 8)):
        assert abs(missing[:, pixel[0], pixel[1]].mean() - rate) < 5 * (rate * (1 - rate) / n) ** 0.5
    together = (missing[:, :, 1:] * missing[:, :, :-1]).mean()
    assert (abs(together - rate**2) < 0.01) == (size == 1)


def test_a_single_spot_is_round() -> None:
    """A rate so small that spots do not meet: each is the disc of that diameter, cut off at borders."""
    missing = ~masks(Mask(pattern="dust", p=0.004, size=5), 200, (1, 30, 30))[:, 0]
    labels, count = scipy.ndimage.label(missing.numpy(), np.pad(np.ones((1, 3, 3)), ((1, 1), (0, 0), (0, 0))))
    spots = [labels[part][0] > 0 for part in scipy.ndimage.find_objects(labels)]
    whole = [spot for spot in spots if spot.shape == (5, 5)]
    disc = np.hypot(*np.indices((5, 5)) - 2.0) <= 2.5
    assert count > 20 and len(whole) > 10
    assert sum(np.array_equal(spot, disc) for spot in whole) >= 0.8 * len(whole)


def test_rates_and_files_are_drawn_alike_often() -> None:
    """n = 3,000 draws: each rate and each mask within 5 standard errors of its share."""
    n = 3000
    share = masks(Mask(p=(0.1, 0.5, 0.9)), n, (1, 20, 20)).double().mean((1, 2, 3))
    for rate in (0.1, 0.5, 0.9):
        found = (abs(share - (1 - rate)) < 0.2).double().mean()
        assert abs(found - 1 / 3) < 5 * (2 / 9 / n) ** 0.5
    bank = random(5, 1, 6, 4) < 0.5
    drawn = masks(Mask(pattern="files", masks=Embedded(bank)), n, (3, 6, 4)).numpy()
    shares = [(drawn == mask).all((1, 2, 3)).mean() for mask in bank]
    assert abs(sum(shares) - 1) < 1e-12 and max(abs(share - 0.2) for share in shares) < 5 * (0.16 / n) ** 0.5
