"""MRI against numpy and sigpy: the forward map, simulated coils, sampling patterns, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sigpy.mri.sim import birdcage_maps
from torch import Tensor

from restill.core.errors import UserError
from restill.core.tensors import channels_to_complex
from restill.corruption import Embedded, Mri, MriOperator, corruption_from
from restill.corruption.mri.lines import centre, equispaced_lines, fewer, random_lines
from restill.corruption.mri.maps import birdcage, coarse, refined

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=F64)


@pytest.mark.parametrize(("height", "width", "coils"), [(8, 12, 1), (9, 11, 4), (7, 10, 16)])
def test_forward_map_against_numpy(height: int, width: int, coils: int) -> None:
    operator = Mri(acceleration=2, acs=2, coils=coils).draw(3, (2, height, width), generator())
    x = normal(3, 2, height, width)
    got = channels_to_complex(operator.apply(x)).numpy()
    maps = torch.view_as_complex(operator.maps).numpy().astype(np.complex128)
    for n in range(3):
        image = x[n, 0].numpy() + 1j * x[n, 1].numpy()
        for coil in range(coils):
            shifted = np.fft.ifftshift(maps[n, coil] * image)
            expected = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho")) * operator.mask[n, 0].numpy()
            np.testing.assert_allclose(got[n, coil], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_physics_stays_in_complex64_under_autocast(precision: torch.dtype) -> None:
    operator = Mri(acs=2).draw(2, (2, 16, 16), generator())
    x = normal(2, 2, 16, 16).float()
    outside = operator.seen(x), operator.noise(operator.embed(x))
    with torch.autocast("cpu", dtype=precision):
        inside = operator.seen(x), operator.noise(operator.embed(x))
        coarse_input = operator.seen(x.to(precision))
    for a, b in zip(outside, inside, strict=True):
        assert b.dtype == torch.float32 and torch.equal(a, b)
    assert coarse_input.dtype == torch.float32


@pytest.mark.parametrize("shape", [(4, 16, 16), (8, 12, 20), (3, 9, 11)])
def test_birdcage_is_sigpys(shape: tuple[int, int, int]) -> None:
    maps = torch.view_as_complex(birdcage(torch.zeros(1), *shape))[0].numpy()
    expected = birdcage_maps(shape)
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_birdcage_turns_with_its_angle() -> None:
    """A turn by one coil's spacing makes each coil the next one."""
    spacing = 2 * math.pi / 5
    maps = torch.view_as_complex(birdcage(torch.tensor([0.0, spacing]), 5, 12, 12))
    torch.testing.assert_close(maps[1], maps[0].roll(-1, 0), rtol=1e-4, atol=1e-5)


def test_maps_are_normalised() -> None:
    operator = Mri(coils=6, acs=2).draw(5, (2, 17, 13), generator(3))
    torch.testing.assert_close(operator.maps.square().sum(dim=(1, -1)), torch.ones(5, 17, 13))
    assert not torch.equal(operator.maps[0], operator.maps[1])


def test_coarse_maps_are_refined_to_what_they_were() -> None:
    """Sensitivities are smooth: from a third of the resolution within 2% on their support, edges apart."""
    maps = birdcage(torch.tensor([0.3]), 4, 144, 144)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 144), torch.linspace(-1, 1, 144), indexing="ij")
    radius = (x.square() + y.square()).sqrt()
    cropped = maps * (radius < 0.8)[None, None, :, :, None]
    kept = coarse(cropped)
    assert kept.shape == (1, 4, 48, 48, 2)
    found = refined(kept, 144, 144)
    norm = found.square().sum(dim=(1, -1)).sqrt()[0]
    assert ((norm - 1).abs() < 1e-5).logical_or(norm == 0).all()
    assert (norm[radius < 0.76] > 0).all() and (norm[radius > 0.84] == 0).all()
    assert (found - cropped)[0, :, radius < 0.76].abs().max() < 0.02
    assert refined(maps, 144, 144) is maps


@pytest.mark.parametrize("pattern", [random_lines, equispaced_lines])
@pytest.mark.parametrize(
    ("acceleration", "width", "acs"), [(4.0, 32, 4), (2.0, 33, 3), (8.0, 32, 2), (3.5, 40, 5), (1.0, 9, 2)]
)
def test_lines_have_the_stated_acceleration(pattern, acceleration: float, width: int, acs: int) -> None:  # type: ignore[no-untyped-def]
    """n = 4,000 masks: the mean number of lines within 5 standard errors of W/R; the centre always."""
    n = 4000
    mask = pattern(torch.full((n,), acceleration), width, acs, generator(1))
    assert mask.shape == (n, 1, 1, width) and mask.dtype == torch.bool
    start = width // 2 - acs // 2
    assert mask[..., start : start + acs].all()
    counts = mask.flatten(1).sum(1).double()
    assert abs(counts.mean() - width / acceleration) <= 5 * counts.std() / n**0.5 + 1e-9
    others = mask[:, 0, 0].double().mean(0)[~centre(width, acs)]
    if acceleration > 1 and acs < width / acceleration:
        share = (width / acceleration - acs) / (width - acs)
        assert (others - share).abs().max() < 5 * (share * (1 - share) / n) ** 0.5
        assert counts.max() - counts.min() <= (1 if pattern is random_lines else 2)


def test_equispaced_lines_are() -> None:
    """Outside the centre neighbours are a spacing apart, rounded up or down."""
    mask = equispaced_lines(torch.full((50,), 4.0), 64, 4, generator(2))[:, 0, 0]
    spacing = 60 / 12
    for row in mask:
        lines = row.nonzero()[:, 0]
        left = lines[lines < 30].diff()
        assert ((left - spacing).abs() < 1).all() and len(left) > 2


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("acceleration", [2.0, 4.0, 8.0])
def test_further_masks_are_subsets_of_the_stated_acceleration(acceleration: float, delta: float) -> None:
    """n = 4,000: R + delta in the mean, within 5 standard errors; the centre is kept, something is lost."""
    n, width, acs = 4000, 40, 3
    mask = random_lines(torch.full((n,), acceleration), width, acs, generator(1))
    less = fewer(mask, acs, delta, generator(2))
    assert (less <= mask).all() and less[..., centre(width, acs)].all()
    counts = less.flatten(1).sum(1).double()
    expected = (width / (width / mask.flatten(1).sum(1).double() + delta)).mean()
    assert abs(counts.mean() - expected) < 5 * counts.std() / n**0.5 + 1e-9
    assert less.sum() < mask.sum()
    lost = (mask & ~less)[:, 0, 0].double().mean(0)[~centre(width, acs)]
    assert lost.max() < 2 * lost.min()  # every line alike


def test_further_points_keep_the_centre() -> None:
    mask = torch.rand(200, 1, 11, 14, generator=generator()) < 0.5
    mask[..., 4:7, 5:9] = True
    less = fewer(mask, 3, 1.0, generator(1))
    inside = centre(11, 3)[:, None] & centre(14, 3)
    assert (less <= mask).all() and less[..., inside].all()
    counts = mask.flatten(1).sum(1).double()
    assert abs(less.flatten(1).sum(1).double().mean() - (154 / (154 / counts + 1)).mean()) < 0.2


def test_several_accelerations_in_one_batch() -> None:
    mask = Mri(acceleration=(2, 8), acs=2).draw(400, (2, 8, 32), generator()).mask
    assert set(mask.flatten(1).sum(1).tolist()) == {16, 4}


def test_bit_equal_however_the_unmeasured_is_filled() -> None:
    """Nothing but measured k-space reaches domain, input or residual."""
    operator = Mri(acceleration=3, acs=2).draw(4, (2, 12, 12), generator())
    y = operator.apply(normal(4, 2, 12, 12))
    garbage = torch.where(operator.mask, y, 1e6 * normal(*y.shape, seed=1))
    assert torch.equal(operator.to_domain(garbage), operator.to_domain(y))
    assert torch.equal(operator.restrict(garbage), operator.restrict(y))
    nothing = torch.where(operator.mask, y, -torch.inf)
    left = operator.restrict(nothing)[~operator.mask.expand_as(y)]
    assert not left.any() and not bool(left.signbit().any())


LINES = Embedded(np.ones((2, 1, 1, 12), dtype=bool)).describe()
MAPS = Embedded(np.ones((2, 4, 6, 6, 2), dtype=np.float32)).describe()


@pytest.mark.parametrize(
    ("description", "shape", "message"),
    [
        ({"acceleration": 0.5}, (2, 8, 16), "acceleration"),
        ({"acceleration": []}, (2, 8, 16), "empty list"),
        ({"acs": 0}, (2, 8, 16), "acs"),
        ({"coils": 0}, (2, 8, 16), "coils"),
        ({"pattern": "spiral"}, (2, 8, 16), "pattern"),
        ({"pattern": "files"}, (2, 8, 16), "corruption.masks"),
        ({"masks": LINES}, (2, 8, 16), "needs pattern: files"),
        ({"maps": "none"}, (2, 8, 16), "maps"),
        ({"maps": MAPS, "coils": 3}, (2, 8, 16), "3 coils"),
        ({"clean_fraction": 0.1}, (2, 8, 16), "clean_fraction"),
        ({"pattern": "files", "masks": LINES}, (2, 8, 16), "corruption.masks"),
        ({"acs": 2}, (1, 8, 16), "complex images"),
        ({"acs": 4}, (2, 8, 16), "state fewer than 4"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(description: dict, shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        corruption_from({"kind": "mri", **description}).draw(1, shape, generator())
    assert "\n" not in str(caught.value)


def test_no_chain_with_others() -> None:
    with pytest.raises(UserError, match=r"operators\[1\]: kind mri cannot be part of a chain"):
        corruption_from({"kind": "compose", "operators": ["blur", "mri"]})


def test_measured_banks_are_drawn_from() -> None:
    lines = np.eye(12, dtype=bool)[:3, None, None] | (np.abs(np.arange(12) - 6) < 2)
    maps = torch.view_as_real(torch.polar(torch.rand(2, 3, 8, 12), torch.rand(2, 3, 8, 12))).numpy()
    law = Mri(pattern="files", masks=Embedded(lines), maps=Embedded(maps), coils=3, acs=3)
    operator = law.draw(60, (2, 8, 12), generator())
    assert isinstance(operator, MriOperator)
    assert {tuple(row.flatten().tolist()) for row in operator.mask} == {tuple(row.flatten().tolist()) for row in lines}
    assert len({float(row.sum()) for row in operator.maps}) == 2


@pytest.mark.parametrize("delta", [0, -1.0, "one", float("nan")])
def test_further_masks_need_a_step(delta: object) -> None:
    with pytest.raises(UserError, match=r"corruption\.delta: must"):
        corruption_from({"kind": "mri", "delta": delta})


@pytest.mark.parametrize("coils", [1, 3])
def test_noise_of_measurements_is_white_and_of_its_level(coils: int) -> None:
    """n = 500 draws of 4 slices: each part of each measured sample has variance sigma_n^2, and nothing else any."""
    law, n, levels = Mri(acceleration=2, acs=2, coils=coils), 500, (0.0, 0.1, 0.5, 2.0)
    drawn = law.draw(4, (2, 6, 12), generator())
    operator = drawn.with_parameters({"sigma_n": torch.tensor(levels, dtype=F64)})
    x, gen = normal(4, 2, 6, 12), generator(1)
    noise = torch.stack([law.corrupt(x, operator, gen) - operator.apply(x) for _ in range(n)])
    measured = operator.mask.expand(4, 2 * coils, 6, 12)
    assert not noise[:, ~measured].any() and not noise[:, 0].any()
    for k in (1, 2, 3):
        found = noise[:, k][:, measured[k]]
        count = found.numel()
        assert abs(found.square().mean() / levels[k] ** 2 - 1) < 5 * (2 / count) ** 0.5
        channels = torch.stack(
            [noise[:, k, c][:, operator.mask[k, 0].expand(6, 12)].flatten() for c in range(2 * coils)]
        )
        correlation = torch.corrcoef(channels) - torch.eye(2 * coils, dtype=F64)
        assert correlation.abs().max() < 5 / channels.shape[1] ** 0.5
        per_channel = channels.square().mean(1) / levels[k] ** 2
        assert (per_channel - 1).abs().max() < 5 * (2 / channels.shape[1]) ** 0.5


@pytest.mark.parametrize("coils", [1, 3])
def test_noise_in_the_domain_has_the_covariance_of_the_operator(coils: int) -> None:
    """Exactly, as matrices: N N^T = A^H A for noise that is white in k-space, and not its square."""
    operator = Mri(acceleration=2, acs=2, coils=coils).draw(1, (2, 4, 8), generator(2))
    wide = operator.with_parameters({"maps": operator.maps.double()})

    def matrix(function, shape: tuple[int, ...]) -> Tensor:  # type: ignore[no-untyped-def]
        unit = torch.eye(math.prod(shape), dtype=F64).view(-1, *shape)
        return torch.cat([function(each[None]).flatten(1) for each in unit]).T

    noise, seen = matrix(wide.noise, (2 * coils, 4, 8)), matrix(wide.seen, (2, 4, 8))
    torch.testing.assert_close(noise @ noise.T, seen, rtol=0, atol=1e-6)
    projection = (seen @ seen - seen).abs().max()
    assert (projection < 1e-6) == (coils == 1)  # with several coils A^H A is no projection, and the law says something


def test_gradients_of_the_image_of_measurements() -> None:
    """The backward pass of `to_image` is its transpose: A^H and its adjoint, with the maps conjugate once."""
    operator = Mri(acceleration=2, acs=2, coils=2).draw(1, (2, 4, 8), generator(2))
    y = normal(1, 4, 4, 8).requires_grad_()
    image, weight = operator.to_image(y), normal(1, 2, 4, 8, seed=3)
    (gradient,) = torch.autograd.grad((image * weight).sum(), y)
    expected = operator.apply(weight)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)
    assert float(gradient.abs().max()) > 0.1


def test_each_sample_draws_its_own_coils_and_lines() -> None:
    """A batch has other maps and lines in every sample, of the width of the image; delta and acs are those stated."""
    law = Mri(acceleration=2, acs=3, coils=2, delta=2.0)
    operator = law.draw(50, (2, 8, 20), generator())
    assert operator.mask.shape == (50, 1, 1, 20) and operator.maps.shape == (50, 2, 8, 20, 2)
    assert len({tuple(mask.flatten().tolist()) for mask in operator.mask}) > 40
    assert len({float(maps[0, 0, 0, 0]) for maps in operator.maps}) == 50
    further = law.further(operator, generator(1))
    assert bool(further.mask[..., centre(20, 3)].all()) and not bool((further.mask & ~operator.mask).any())
    assert int(further.mask.sum()) / 50 == pytest.approx(20 / (2 + 2), abs=0.5)


def test_coarse_maps_of_oblong_images() -> None:
    """Height stays height: within 5% in the inside, where blocks of pixels overlap no border."""
    maps = birdcage(torch.tensor([0.3]), 3, 60, 96)
    found = refined(coarse(maps), 60, 96)
    assert coarse(maps).shape == (1, 3, 48, 48, 2) and found.shape == maps.shape
    assert (found - maps)[:, :, 3:-3, 3:-3].abs().max() < 0.05


def test_further_points_hide_all_but_the_centre_block() -> None:
    """Of points in the centre's rows or columns alone some are lost, like everywhere else; n = 300 masks."""
    mask = torch.ones(300, 1, 11, 14, dtype=torch.bool)
    less = fewer(mask, 3, 3.0, generator(1)).double().mean(0)[0]
    rows, columns = centre(11, 3)[:, None], centre(14, 3)
    assert bool((less[rows & columns] == 1).all())
    share = (11 * 14 / 4 - 9) / (11 * 14 - 9)  # of the others, all alike
    assert (less[~(rows & columns)] - share).abs().max() < 5 * (share * (1 - share) / 300) ** 0.5
