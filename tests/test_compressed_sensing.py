"""L1-wavelet compressed sensing: its minimiser, and the weight that is chosen without clean images."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import sigpy
import sigpy.mri
import torch
from torch import Tensor

from custom_corruptions import FourierMaskOperator, RandomLines
from restill.acquisition import corrupt_images
from restill.core.errors import UserError
from restill.core.tensors import channels_to_complex, complex_to_channels, seeded
from restill.corruption import AdditiveNoise, Corruption, Mri, Operator
from restill.io import array_source
from restill.restoration import (
    CANDIDATES,
    CompressedSensing,
    Wavelets,
    choose_weight,
    choose_weight_for,
    largest_eigenvalue,
    reconstruct,
)
from restill.store import Store
from tiny import tiny_store

MODULE = importlib.import_module("restill.restoration.compressed_sensing")  # its function has its name
MULTI_COIL = Mri(acceleration=3, acs=4, coils=4)


def phantoms(n: int, size: int) -> Tensor:
    """Complex images of ellipses with smooth phases, `[n, 2, size, size]`, float64; magnitudes up to 1."""
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    images = np.zeros((n, size, size), dtype=complex)
    for image in images:
        for _ in range(4):
            (a, b), (u, v) = rng.uniform(0.2, 0.7, 2), rng.uniform(-0.4, 0.4, 2)
            image += rng.uniform(0.1, 0.25) * (((rows - u) / a) ** 2 + ((columns - v) / b) ** 2 < 1)
        image *= np.exp(1j * (rng.uniform(-3, 3) + rows * rng.uniform(-1, 1) + columns * rng.uniform(-1, 1)))
    return complex_to_channels(torch.from_numpy(images)[:, None])


def measured(corruption: Corruption, x: Tensor, seed: int = 0) -> tuple[Tensor, Operator]:
    generator = seeded("measured", seed)
    operator = corruption.draw(len(x), tuple(x.shape[1:]), generator)
    return corruption.corrupt(x, operator, generator), operator


def as_complex(x: Tensor) -> np.ndarray:
    return channels_to_complex(x)[:, 0].numpy()


def psnr(x: Tensor, reference: Tensor) -> float:
    """Of magnitudes up to 1, mean over slices, in decibel."""
    error = channels_to_complex(x).abs() - channels_to_complex(reference).abs()
    return float((-10 * error.square().mean(dim=(1, 2, 3)).log10()).mean())


@pytest.mark.parametrize(
    "corruption", [RandomLines(kept=0.4, sigma_n=0.02), MULTI_COIL], ids=["one coil", "four coils"]
)
def test_optimality_conditions(corruption: Corruption) -> None:
    """0 is a subgradient: W A^H (y - A x) is `lambda c / |c|` where c = W x is not 0, and at most lambda elsewhere."""
    y, operator = measured(corruption, phantoms(3, 16))
    weight = 0.01
    x = CompressedSensing(weight, iterations=5000, cycle_spinning=False)(y, operator)
    wavelets = Wavelets((16, 16))
    limit = weight * np.abs(wavelets.forward(torch.from_numpy(as_complex(operator.adjoint(y)))).numpy()).max((1, 2))
    pull = torch.from_numpy(as_complex(operator.adjoint(y - operator.apply(x))))
    ratio = wavelets.forward(pull).numpy() / limit[:, None, None]
    c = wavelets.forward(torch.from_numpy(as_complex(x))).numpy()
    assert np.abs(ratio).max() < 1 + 1e-4
    active = np.abs(c) > 1e-6 * np.abs(c).max()
    assert 0.1 < active.mean() < 0.9  # both conditions are put to the test
    assert np.abs(ratio - c / np.maximum(np.abs(c), 1e-30))[active].max() < 1e-4


def test_an_independent_solver_finds_the_same_image() -> None:
    """The same problem for L-BFGS-B of scipy, as matrices, with the modulus smoothed by 1e-7."""
    x = phantoms(1, 8)
    y, operator = measured(RandomLines(kept=0.4), x)
    y, weight, wavelets = y.double(), 0.05, Wavelets((8, 8))
    unit = torch.eye(128, dtype=torch.float64).view(128, 2, 8, 8)
    repeated = operator.select(torch.zeros(128, dtype=torch.int64))
    matrix = repeated.apply(unit).flatten(1).T.numpy()
    transform = wavelets.forward(unit).flatten(1).T.numpy()
    target = y.flatten().numpy()
    limit = weight * np.hypot(*(transform @ matrix.T @ target).reshape(2, -1)).max()

    def objective(v: np.ndarray, soft: float = 1e-7) -> tuple[float, np.ndarray]:
        residual, c = matrix @ v - target, (transform @ v).reshape(2, -1)
        modulus = np.sqrt((c**2).sum(0) + soft**2)
        gradient = matrix.T @ residual + limit * transform.T @ (c / modulus).ravel()
        return 0.5 * residual @ residual + limit * modulus.sum(), gradient

    options = {"maxiter": 100_000, "maxfun": 200_000, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 50}
    theirs = scipy.optimize.minimize(objective, np.zeros(128), jac=True, method="L-BFGS-B", options=options)
    ours = CompressedSensing(weight, iterations=10_000, cycle_spinning=False)(y, operator).flatten().numpy()
    assert objective(ours)[0] == pytest.approx(theirs.fun, rel=1e-5)
    assert objective(ours)[0] < (1 - 1e-3) * objective(operator.adjoint(y).flatten().numpy())[0]


@pytest.mark.parametrize("lipschitz", [1.0, 1.7])
def test_iterations_are_those_of_fista(lipschitz: float) -> None:
    """Beck and Teboulle, equations 4.1 to 4.3, with matrices in numpy: five iterations of two slices alike to 1e-10."""
    x = phantoms(2, 8) * torch.tensor([1.0, 0.1]).view(2, 1, 1, 1)
    y, operator = measured(RandomLines(kept=0.5, sigma_n=0.05), x)
    y, weight, wavelets = y.double(), 0.05, Wavelets((8, 8))
    unit = torch.eye(128, dtype=torch.float64).view(128, 2, 8, 8)
    transform = wavelets.forward(unit).flatten(1).T.numpy()
    found = CompressedSensing(weight, 5, lipschitz=lipschitz, cycle_spinning=False)(y, operator).flatten(1).numpy()
    for k in range(2):
        matrix = operator.select(torch.full((128,), k)).apply(unit).flatten(1).T.numpy()
        target = y[k].flatten().numpy()
        last = z = matrix.T @ target
        limit, t = weight * np.hypot(*(transform @ last).reshape(2, -1)).max(), 1.0
        for _ in range(5):
            c = (transform @ (z - matrix.T @ (matrix @ z - target) / lipschitz)).reshape(2, -1)
            kept = np.maximum(1 - limit / lipschitz / np.hypot(*c), 0)
            new, following = transform.T @ (kept * c).ravel(), (1 + (1 + 4 * t**2) ** 0.5) / 2
            last, z, t = new, new + (t - 1) / following * (new - last), following
        np.testing.assert_allclose(found[k], last, atol=1e-10)
        assert np.abs(last - matrix.T @ target).max() > 1e-3


def test_sigpy_finds_the_same_image() -> None:
    """sigpy pads the image for another border, so Haar, which no border touches, and its own absolute weight."""
    x = phantoms(1, 16)
    y, operator = measured(Mri(acceleration=2, acs=4, coils=4), x)
    wavelets = Wavelets((16, 16), "haar", 4)
    zero_filled = torch.from_numpy(as_complex(operator.adjoint(y)))
    weight, lam = 0.02, 0.02 * float(wavelets.forward(zero_filled).abs().max())
    maps = torch.view_as_complex(operator.maps.double())[0].numpy()
    kspace = channels_to_complex(y)[0].numpy()
    theirs = sigpy.mri.app.L1WaveletRecon(
        kspace, maps, lam, weights=operator.mask[0].double().numpy(), wave_name="haar", max_iter=1000, show_pbar=False
    ).run()
    ours = as_complex(CompressedSensing(weight, 1000, "haar", 4, cycle_spinning=False)(y, operator))[0]
    assert np.linalg.norm(ours - theirs) < 1e-3 * np.linalg.norm(theirs)
    assert np.linalg.norm(ours - zero_filled[0].numpy()) > 0.02 * np.linalg.norm(theirs)


def test_convergence() -> None:
    """Beck and Teboulle, theorem 4.4: the objective exceeds the minimum by at most 2 L |x_0 - x*|^2 / (k + 1)^2."""
    y, operator = measured(MULTI_COIL, phantoms(2, 32))
    wavelets, start = Wavelets((32, 32)), operator.adjoint(y)
    limit = 0.003 * wavelets.forward(channels_to_complex(start)).abs().amax((1, 2, 3))

    def objective(x: Tensor) -> Tensor:
        c = wavelets.forward(channels_to_complex(x)).abs().sum((1, 2, 3))
        return 0.5 * (operator.apply(x) - y).square().sum((1, 2, 3)) + limit * c

    best = CompressedSensing(0.003, 4000, cycle_spinning=False)(y, operator)
    before = objective(start)
    for k in (1, 10, 30, 100):
        value = objective(CompressedSensing(0.003, k, cycle_spinning=False)(y, operator))
        assert (value < before).all()
        bound = 2 * (start - best).square().sum((1, 2, 3)) / (k + 1) ** 2
        assert ((value - objective(best)) / bound).max() < 1 + 1e-9
        before = value


def test_everything_measured_and_no_weight_gives_the_image() -> None:
    x = phantoms(2, 16)
    one_coil = FourierMaskOperator(torch.zeros(2), torch.ones(2, 1, 16, 16))
    for operator in (one_coil, measured(Mri(acceleration=1, acs=4, coils=3), x)[1]):
        found = CompressedSensing(0.0, iterations=1)(operator.apply(x), operator)
        assert torch.allclose(found, x, atol=1e-6)


def test_slices_do_not_influence_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    x = phantoms(5, 16)
    x[3] = 0
    y, operator = measured(MULTI_COIL, x)
    together = CompressedSensing(0.01, 20)(y, operator)
    alone = [CompressedSensing(0.01, 20)(y[k : k + 1], operator.select(slice(k, k + 1))) for k in range(5)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-12) and not together[3].any()
    scaled = CompressedSensing(0.01, 20)(y * 7, operator)
    assert torch.allclose(scaled, 7 * together, atol=1e-10)  # the weight is relative
    monkeypatch.setattr(MODULE, "_BLOCK_VALUES", 2 * y[0].numel())
    assert torch.allclose(CompressedSensing(0.01, 20)(y, operator), together, atol=1e-12)


def test_float32() -> None:
    """float32 agrees with float64 far below the error of the reconstruction."""
    x = phantoms(4, 32)
    y, operator = measured(MULTI_COIL, x)
    wide = CompressedSensing(0.001)(y, operator)
    narrow = CompressedSensing(0.001)(y.float(), operator)
    assert narrow.dtype == torch.float32 and wide.dtype == torch.float64
    assert (narrow - wide).abs().max() < 1e-4 < (wide - x).abs().max()


@pytest.mark.parametrize("shape", [(33, 32), (31, 45)], ids=str)
def test_odd_sizes(shape: tuple[int, int]) -> None:
    x = phantoms(8, 48)[:, :, : shape[0], : shape[1]].contiguous()
    y, operator = measured(MULTI_COIL, x)
    assert psnr(CompressedSensing(1e-3)(y, operator), x) > psnr(operator.adjoint(y), x) + 3


def test_cycle_spinning_helps() -> None:
    x = phantoms(16, 32)
    y, operator = measured(MULTI_COIL, x)
    spun, fixed = (CompressedSensing(1e-3, cycle_spinning=spin)(y, operator) for spin in (True, False))
    assert psnr(spun, x) > psnr(fixed, x) + 0.3


def test_the_largest_eigenvalue() -> None:
    x = phantoms(2, 12)
    _, operator = measured(Mri(acceleration=3, acs=3), x)
    loud = operator.with_parameters({"maps": operator.maps * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1, 1)})
    unit = torch.eye(288).view(288, 2, 12, 12)
    for k, found in enumerate(largest_eigenvalue(loud, (2, 12, 12), iterations=300)):
        matrix = loud.select(torch.full((288,), k)).apply(unit).flatten(1)
        exact = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
        assert 0.99 * exact < float(found) < 1.0001 * exact
    y = loud.apply(x)
    with pytest.raises(UserError, match="diverged; state lipschitz"):
        CompressedSensing(1e-3, iterations=400)(y.float(), loud)
    found = CompressedSensing(1e-3, iterations=400, lipschitz=1.05 * largest_eigenvalue(loud, (2, 12, 12)))(y, loud)
    assert (found - x).norm() < 0.5 * (loud.adjoint(y) - x).norm()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"weight": -1.0}, "weight must be"), ({"weight": math.nan}, "weight must be"), ({"iterations": 0}, "iterations")],
)
def test_settings_that_are_refused(change: dict, words: str) -> None:
    y, operator = measured(MULTI_COIL, phantoms(1, 16))
    with pytest.raises(UserError, match=words):
        CompressedSensing(**{"weight": 0.1, **change})(y, operator)


def test_real_images_are_refused() -> None:
    x = torch.zeros(2, 1, 16, 16)
    with pytest.raises(UserError, match=r"must be complex, \[n, 2, H, W\], not \[2, 1, 16, 16\]"):
        CompressedSensing(0.1)(x, AdditiveNoise().draw(2, (1, 16, 16), seeded("a")))


def brains(shared_data: Path, n: int, size: int) -> Tensor:
    """Real slices with simulated smooth phases, `[n, 2, size, size]`, magnitudes up to 1."""
    path = shared_data / "brain-mri-128.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in shared/data")
    with np.load(path, allow_pickle=False) as file:
        every = file["images"]
    chosen = torch.from_numpy(every[np.linspace(0, len(every) - 1, n).round().astype(int)])[:, None] / 255
    small = torch.nn.functional.avg_pool2d(chosen, every.shape[1] // size)
    grid = torch.linspace(-1, 1, size)
    slope = torch.randn(3, n, 1, 1, 1, generator=seeded("phase"))
    return complex_to_channels(torch.polar(small, slope[0] + slope[1] * grid + slope[2] * grid[:, None]))


@pytest.mark.parametrize(
    "corruption",
    [
        Mri(acceleration=2, acs=4, coils=4),
        Mri(acceleration=4, acs=4, coils=4),
        Mri(acceleration=4, acs=4, coils=4, sigma_n=0.02),
    ],
    ids=["R2", "R4", "R4 with noise"],
)
def test_the_weight_is_near_the_best(corruption: Mri, shared_data: Path) -> None:
    """Chosen from measurements alone it loses at most 0.5 dB to the best candidate (n = 16 slices), and gains much."""
    x = brains(shared_data, 16, 32)
    y, operator = measured(corruption, x)
    choice = choose_weight(y, operator, corruption.further(operator, seeded("further")), CompressedSensing(0.0, 60))
    scores = [psnr(CompressedSensing(weight, 60)(y, operator), x) for weight in CANDIDATES]
    chosen = scores[CANDIDATES.index(choice.weight)]
    assert chosen > max(scores) - 0.5 and max(scores) - min(scores) > 2
    assert chosen > psnr(operator.adjoint(y), x) + 1.5
    assert choice.weight not in (min(choice.candidates), max(choice.candidates))


def test_the_curve_is_the_error_of_what_was_held_out() -> None:
    x = phantoms(3, 16)
    corruption = RandomLines(kept=0.6, kept_further=0.6)
    y, operator = measured(corruption, x)
    further = corruption.further(operator, seeded("further"))
    choice = choose_weight(y, operator, further, CompressedSensing(0.0, 10), [10.0, 0.001, 0.1])
    assert isinstance(operator, FourierMaskOperator) and isinstance(further, FourierMaskOperator)
    held_out = (operator.mask.bool() & ~further.mask.bool()).expand_as(y)
    for weight, error in zip(choice.candidates, choice.errors, strict=True):
        found = operator.apply(CompressedSensing(weight, 10)(further.mask * y, further))
        assert error == pytest.approx(float((found - y)[held_out].square().mean()), rel=1e-6)
    zero_error = float(y[held_out].square().mean())  # of the image that a large weight gives, which is 0
    assert choice.errors[0] == pytest.approx(zero_error, rel=1e-6) and min(choice.errors) < 0.9 * zero_error
    assert choice.candidates == (10.0, 0.001, 0.1)
    assert choice.weight == min(zip(choice.errors, choice.candidates, strict=True))[1] != 10.0
    with pytest.raises(UserError, match="no line can be held out"):
        choose_weight(y, operator, operator, CompressedSensing(0.0))
    with pytest.raises(UserError, match="candidates for the weight are empty"):
        choose_weight(y, operator, further, CompressedSensing(0.0), [])


def complex_store(folder: Path, x: Tensor, corruption: Corruption) -> Store:
    source = array_source(x.float().numpy(), "images", layout="NCHW")
    return corrupt_images(source, corruption, folder / "store", None, seed=0)


def test_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_BATCH", 4)
    store = complex_store(tmp_path, phantoms(10, 16), MULTI_COIL)
    counts: list[int] = []

    def advance(done: int = 0, note: str = "") -> None:
        counts.append(done)

    found = list(reconstruct(store, CompressedSensing(0.01, 5), advance))
    assert counts == [4, 4, 2] and [len(images) for images in found] == counts
    batch = store.batch(torch.arange(10))
    expected = CompressedSensing(0.01, 5)(batch.y, batch.operator)
    assert torch.allclose(torch.cat(found), expected, atol=1e-5) and expected.shape == (10, 2, 16, 16)
    method = CompressedSensing(0.0, 5)
    choice = choose_weight_for(store, method, seed=0, most=6)
    assert choice == choose_weight_for(store, method, seed=0, most=6)
    assert choice != choose_weight_for(store, method, seed=1, most=6)
    spread = store.batch(torch.tensor([0, 3, 6, 9]))  # evenly, with both ends
    for seed in (0, 1):
        further = MULTI_COIL.further(spread.operator, seeded("weight", seed))
        direct = choose_weight(spread.y, spread.operator, further, method)
        assert choose_weight_for(store, method, seed, most=4) == direct


def test_stores_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be complex"):
        next(reconstruct(tiny_store(tmp_path / "store"), CompressedSensing(0.01)))
