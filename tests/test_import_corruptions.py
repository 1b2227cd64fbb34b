"""Real measurements with every law: masked, blurred, low-resolution, counted, projected; and what is refused.

What is imported here was made with numpy and scipy, so that the operators of the store are checked against these.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from restill.acquisition import DataSettings, import_measurements
from restill.core.errors import UserError
from restill.corruption import (
    Blur,
    Compose,
    Downsampling,
    Embedded,
    Mask,
    Operator,
    Poisson,
    register_operator,
)
from restill.generator import load_generator
from restill.io import array_source, open_masks
from restill.runs import prepare_store, working_on
from restill.runs.recipe_files import load_recipe
from restill.store import Store, open_store
from tiny import images, settings

Cli = Callable[..., str]
RNG = np.random.default_rng(0)
N = 40
CLEAN = images(N, (1, 8, 10)).astype(np.float32) * 4 + 100  # float, of a range that says nothing by itself
PSF = np.array([[0, 1, 2], [1, 5, 3], [0, 1, 1.0]], dtype=np.float32)
PSF = PSF / PSF.sum()


def stated(**data: Any) -> DataSettings:
    return DataSettings(content="measurements", **data)


def everything(store: Store) -> tuple[torch.Tensor, Operator]:
    batch = store.batch(torch.arange(len(store)))
    return batch.y, batch.operator


def normalised(store: Store, physical: np.ndarray) -> torch.Tensor:
    return store.manifest.normalisation.normalise(torch.from_numpy(physical))


def blurred(x: np.ndarray, mode: str = "mirror") -> np.ndarray:
    return np.stack([[ndimage.convolve(c, PSF, mode=mode) for c in image] for image in x])


def masks_of(n: int, shape: tuple[int, ...], share: float = 0.4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, *shape)) >= share


def import_(tmp_path: Path, array: np.ndarray, sigma_n: Any, **options: Any) -> Store:
    return import_measurements(array_source(array, "scans", layout="NCHW"), tmp_path / "y", sigma_n, **options)


# masks


def save_masks(kind: str, folder: Path, masks: np.ndarray) -> Path:
    """The masks `[n, H, W]` in one of the ways in which people keep them."""
    path = folder / f"masks{'' if kind == 'folder' else f'.{kind}'}"
    if kind == "npy":
        np.save(path, masks)
    elif kind == "npz":
        np.savez(path, images=np.zeros((2, 8, 8)), masks=masks)
    elif kind == "png":
        Image.fromarray(masks[0]).save(path)
    else:
        path.mkdir()
        for i, mask in enumerate(masks):
            Image.fromarray(np.stack([mask * np.uint8(255)] * 3, axis=-1)).save(path / f"{i:03d}.png")
    return path


@pytest.mark.parametrize("kind", ["folder", "npy", "npz"])
def test_a_mask_for_each_image(kind: str, call: Cli, tmp_path: Path) -> None:
    masks = masks_of(N, (8, 10))
    measured = np.where(masks[:, None], CLEAN, 60_000).astype(np.float32)  # what lies under a mask is never looked at
    np.save(tmp_path / "scans.npy", measured)
    words = ["--masks", save_masks(kind, tmp_path, masks), "--out", tmp_path / "y"]
    line = call("import", tmp_path / "scans.npy", "--sigma-n", 5, *words)
    assert f"{1 - masks.mean():.1%} of their pixels missing" in line
    store = open_store(tmp_path / "y")
    y, operator = everything(store)
    observed = torch.from_numpy(masks)[:, None]
    assert torch.equal(operator.condition(), observed) and torch.equal(operator.parameters()["mask"], observed)
    assert (y[~observed] == 0).all()
    np.testing.assert_allclose(y[observed], normalised(store, CLEAN)[observed], atol=1e-6)
    observed_values = CLEAN[masks[:, None]]
    np.testing.assert_allclose(store.manifest.value_range, np.percentile(observed_values, (0.1, 99.9)), rtol=1e-5)
    law = store.corruption
    assert isinstance(law, Mask) and law.pattern == "files" and isinstance(law.masks, Embedded)
    np.testing.assert_array_equal(law.masks.array[:, 0], masks)
    assert law.sigma_n == pytest.approx(5 / store.manifest.normalisation.scale)


@pytest.mark.parametrize("kind", ["png", "npy"])
def test_one_mask_for_all(kind: str, call: Cli, tmp_path: Path) -> None:
    masks = masks_of(1, (8, 10))
    np.save(tmp_path / "scans.npy", CLEAN[:, 0])
    path = save_masks(kind, tmp_path, masks if kind == "png" else masks[0])
    call("import", tmp_path / "scans.npy", "--sigma-n", 0, "--masks", path, "--out", tmp_path / "y")
    store = open_store(tmp_path / "y")
    y, operator = everything(store)
    assert torch.equal(operator.condition(), torch.from_numpy(masks)[:, None].expand(N, 1, 8, 10))
    assert torch.equal(y != 0, operator.condition())
    law = store.corruption
    assert isinstance(law, Mask) and isinstance(law.masks, Embedded) and law.masks.array.shape == (1, 1, 8, 10)


def test_missing_pixels_as_nan_differ_between_channels(tmp_path: Path) -> None:
    clean, masks = images(N, (3, 8, 8)).astype(np.float32), masks_of(N, (3, 8, 8))
    store = import_(tmp_path, np.where(masks, clean, np.nan), 3.0, masks="nan")
    y, operator = everything(store)
    assert np.array_equal(operator.condition(), masks) and bool((y[torch.from_numpy(~masks)] == 0).all())
    np.testing.assert_allclose(store.manifest.value_range, np.percentile(clean[masks], (0.1, 99.9)), rtol=1e-5)
    np.testing.assert_allclose(store.to_physical(y)[torch.from_numpy(masks)], clean[masks], rtol=1e-5, atol=1e-3)


def test_eight_bits_keep_their_nominal_range(tmp_path: Path) -> None:
    clean = images(N, (3, 8, 8))
    masks = array_source(masks_of(N, (8, 8)).astype(np.uint8), "masks")
    store = import_(tmp_path, clean, 3.0, masks=masks)
    y, operator = everything(store)
    assert store.manifest.value_range == (0, 255) and operator.condition().shape == (N, 3, 8, 8)
    assert torch.equal(y, operator.restrict(normalised(store, clean)))


def test_a_stated_pattern_is_the_law_and_the_samples_keep_their_masks(tmp_path: Path) -> None:
    masks = masks_of(N, (8, 10))
    source = array_source(masks.astype(np.float32), "masks")
    store = import_(tmp_path, CLEAN, 0.0, corruption={"kind": "mask", "p": 0.4, "delta": 0.2}, masks=source)
    assert store.corruption == Mask(p=0.4, delta=0.2)
    assert np.array_equal(everything(store)[1].condition()[:, 0], masks)
    store = import_measurements(
        array_source(CLEAN, layout="NCHW"), tmp_path / "z", 0.0, corruption={"kind": "mask", "delta": 0.2}, masks=source
    )
    assert isinstance(store.corruption, Mask) and store.corruption.pattern == "files" and store.corruption.delta == 0.2


def test_a_law_keeps_so_many_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restill.corruption.mask.MOST_MASKS", 5)
    masks = masks_of(N, (8, 10))
    store = import_(tmp_path, CLEAN, 0.0, masks=array_source(masks.astype(np.uint8), "masks"))
    assert isinstance(store.corruption, Mask) and isinstance(store.corruption.masks, Embedded)
    np.testing.assert_array_equal(store.corruption.masks.array[:, 0], masks[[0, 10, 20, 29, 39]])
    assert np.array_equal(everything(store)[1].condition()[:, 0], masks)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (masks_of(39, (8, 10)), "masks: holds 39 masks for the 40 images of scans; give one for each"),
        (masks_of(N, (10, 8)), "masks: masks have 10x8 pixels, but the images of scans have 8x10"),
        (np.arange(N * 80).reshape(N, 8, 10) % 3, "masks: masks must be binary, 0 where .* but hold 0, 1, 2; save"),
        (np.arange(N) != 7, "masks: the mask of scans: image 7 hides everything; leave the image out"),
        (np.ones(N), "no pixel is masked or NaN"),
        (np.stack([masks_of(N, (8, 10)), np.ones((N, 8, 10))], 1), "masks have 2 different channels"),
    ],
)
def test_masks_that_are_refused(masks: np.ndarray, words: str, tmp_path: Path) -> None:
    if masks.ndim == 1:
        masks = np.broadcast_to(masks[:, None, None], (N, 8, 10))
    layout = "NHW" if masks.ndim == 3 else "NCHW"
    with pytest.raises(UserError, match=words):
        import_(tmp_path, CLEAN, 0.0, masks=array_source(masks.astype(np.uint8), "masks", layout=layout))
    assert not list(tmp_path.iterdir())


def test_nan_that_is_refused(tmp_path: Path) -> None:
    broken = CLEAN.copy()
    broken[3] = np.nan
    with pytest.raises(UserError, match="scans: image 3: every value is NaN; leave the image out"):
        import_(tmp_path, broken, 0.0, masks="nan")
    with pytest.raises(UserError, match="scans: no pixel is masked or NaN"):
        import_(tmp_path, CLEAN, 0.0, masks="nan")
    broken[3] = np.inf
    with pytest.raises(UserError, match="scans: image 3: holds infinity"):
        import_(tmp_path, broken, 0.0, masks="nan")
    assert not list(tmp_path.iterdir())


def test_masks_of_other_files_are_refused_in_one_line(fails: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "scans.npy", CLEAN[:, 0])
    (tmp_path / "masks.txt").write_text("1 0 1")
    words = ["import", tmp_path / "scans.npy", "--out", tmp_path / "y", "--sigma-n"]
    assert "masks.txt: is not a folder of images or one of" in fails(*words, 1, "--masks", tmp_path / "masks.txt")
    assert "nowhere: no such file or folder" in fails(*words, 1, "--masks", "nowhere")
    assert "pixels are missing; state the noise level" in fails(*words, "auto", "--masks", "nan")
    assert "that would mix missing pixels" in fails(*words, 1, "--masks", "nan", "--resize", 8)
    line = fails(*words, 1, "--corruption", "{kind: mask, p: 0.4}")
    assert "draws a mask for each measurement" in line and "--masks" in line


# blur, low resolution, photons, functions, chains


def test_a_measured_kernel(call: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "psf.npy", PSF * 7)
    np.save(tmp_path / "scans.npy", blurred(CLEAN)[:, 0])
    law = f"{{kind: blur, kernel: {tmp_path / 'psf.npy'}}}"
    call("import", tmp_path / "scans.npy", "--corruption", law, "--sigma-n", 0, "--out", tmp_path / "y")
    (tmp_path / "psf.npy").unlink()  # the store needs it no more
    store = open_store(tmp_path / "y")
    y, operator = everything(store)
    np.testing.assert_allclose(y, operator.apply(normalised(store, CLEAN)), atol=1e-5)
    assert isinstance(store.corruption, Blur) and operator.parameters()["kernel"].shape == (N, 3, 3)


def test_noise_of_blurred_images_is_stated_in_units_of_the_files(tmp_path: Path) -> None:
    clean = images(400, (1, 8, 10)).astype(np.float32) * 4
    noisy = blurred(clean) + 20 * RNG.standard_normal(clean.shape).astype(np.float32)
    law = {"kind": "blur", "kernel": "gaussian", "size": 3, "std": 0.7}
    levels = np.where(np.arange(400) % 2, 20.0, 10.0)
    store = import_(tmp_path, noisy, levels, corruption=law)
    scale = store.manifest.normalisation.scale
    np.testing.assert_allclose(store.sigma_n * scale, levels, rtol=1e-6)
    assert isinstance(store.corruption, Blur)
    np.testing.assert_allclose(np.array(store.corruption.levels) * scale, [10, 20])
    assert store.corruption.weights == (0.5, 0.5)


def test_noise_of_blurred_images_is_estimated(tmp_path: Path) -> None:
    clean = images(400, (1, 16, 16)).astype(np.float32) * 4
    noisy = clean + 20 * RNG.standard_normal(clean.shape).astype(np.float32)
    store = import_(tmp_path, noisy, "auto", corruption={"kind": "blur", "size": 3})
    found = store.manifest.sigma_n
    assert found.estimated and found.mean * store.manifest.normalisation.scale == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("sigma_n", [0.0, 3.0])
def test_low_resolution(sigma_n: float, tmp_path: Path) -> None:
    small = CLEAN.reshape(N, 1, 4, 2, 5, 2).mean((3, 5))
    store = import_(tmp_path, small, sigma_n, corruption={"kind": "downsampling", "factor": 2})
    y, operator = everything(store)
    assert store.shape == (1, 4, 5) and store.image_shape == (1, 8, 10)
    np.testing.assert_allclose(y, operator.apply(normalised(store, CLEAN)), atol=1e-5)
    law = store.corruption
    assert isinstance(law, Downsampling) and law.lifted == (sigma_n == 0)


def counts(n: int, gain: float, read: float, zero: float) -> tuple[np.ndarray, np.ndarray]:
    """Light in the units of a detector, and what it reads: Poisson counts times a gain, read noise, a pedestal."""
    rng = np.random.default_rng(1)
    light = zero + gain * (20 + 0.3 * images(n, (1, 8, 8)).astype(np.float64))
    photons = rng.poisson((light - zero) / gain)
    return light, (zero + gain * photons + read * rng.standard_normal(photons.shape)).astype(np.float32)


@pytest.mark.parametrize(("gain", "read", "zero"), [(1.0, 0.0, 0.0), (2.5, 4.0, 100.0)])
def test_photons_of_a_detector(gain: float, read: float, zero: float, tmp_path: Path) -> None:
    """1,000 images of 64 pixels: standard errors are sd / sqrt(64,000) for the mean and sd / sqrt(2 * 64,000)."""
    light, measured = counts(1000, gain, read, zero)
    law = {"kind": "poisson", "gain": gain, "read_noise": read, "zero": zero}
    store = import_(tmp_path, measured, None, corruption=law)
    y, operator = everything(store)
    assert isinstance(store.corruption, Poisson)
    scale = store.manifest.normalisation.scale
    assert store.corruption.gain == pytest.approx(gain / scale)
    assert store.corruption.zero == pytest.approx((zero - store.manifest.normalisation.offset) / scale)
    residual = (y - operator.apply(normalised(store, light))).double() / store.corruption.sigma_max
    assert abs(float(residual.mean())) < 5 / 64_000**0.5
    assert float(residual.std()) == pytest.approx(1, abs=0.02)  # 1 within 0.6% above 20 photons, 5 errors of 0.3%
    back = store.to_physical(operator.from_domain(operator.apply(normalised(store, light))))
    np.testing.assert_allclose(back, light, rtol=1e-4)


def test_photons_under_masks_and_without_zero(tmp_path: Path) -> None:
    light, measured = counts(N, 2.0, 0.0, 0.0)
    masks = masks_of(N, (8, 8))
    masked = np.where(masks[:, None], measured, -1e6).astype(np.float32)  # less than no light, but not looked at
    source = array_source(masks.astype(np.uint8), "masks")
    store = import_(tmp_path, masked, None, corruption={"kind": "poisson", "gain": 2.0}, masks=source)
    y, operator = everything(store)
    law = store.corruption
    assert isinstance(law, Compose) and [part.kind for part in law.parts] == ["poisson", "mask"]
    assert np.array_equal(operator.condition()[:, 0], masks) and (y[:, 0][torch.from_numpy(~masks)] == 0).all()
    residual = (y - operator.apply(normalised(store, light)))[:, 0][torch.from_numpy(masks)] / law.sigma_max
    count = int(masks.sum())
    assert abs(float(residual.mean())) < 5 / count**0.5 and abs(float(residual.std()) - 1) < 5 / (2 * count) ** 0.5


def test_a_function_and_the_size_of_its_images(tmp_path: Path) -> None:
    weights = torch.from_numpy(RNG.random((6, 8)).astype(np.float32))
    register_operator("test-wide", lambda x: weights.to(x) @ x)
    measured = np.einsum("ij,ncjk->ncik", weights.numpy(), CLEAN)
    law = {"kind": "function", "name": "test-wide"}
    with pytest.raises(UserError, match=r"state the size of the images with --image-size H,W"):
        import_(tmp_path, measured, 0.0, corruption=law)
    with pytest.raises(UserError, match=r"measures images of 8x12 as \[1, 6, 12\], but the files hold \[1, 6, 10\]"):
        import_(tmp_path, measured, 0.0, corruption=law, data=stated(image_size=(8, 12)))
    store = import_(tmp_path, measured, 0.0, corruption=law, data=stated(image_size=(8, 10)))
    y, operator = everything(store)
    assert store.image_shape == (1, 8, 10) and store.shape == (1, 6, 10)
    low, high = store.manifest.value_range  # 0 stays 0: a shift of images is no shift of what this function measures
    assert low == -high == pytest.approx(-np.percentile(measured, 99.9), rel=1e-4)
    np.testing.assert_allclose(y, operator.apply(normalised(store, CLEAN)), atol=1e-5)


def test_a_blur_that_darkens_the_border_leaves_zero_where_it_is(tmp_path: Path) -> None:
    measured = blurred(CLEAN, mode="constant")
    np.save(tmp_path / "psf.npy", PSF)
    law = {"kind": "blur", "kernel": str(tmp_path / "psf.npy"), "boundary": "zero"}
    with pytest.raises(UserError, match="does not preserve constants, so 0 must stay 0; state a range -HIGH,HIGH"):
        import_(tmp_path, measured, 0.0, corruption=law, data=stated(range=(0, 1000)))
    store = import_(tmp_path, measured, 0.0, corruption=law)
    y, operator = everything(store)
    assert store.manifest.normalisation.offset == 0
    np.testing.assert_allclose(y, operator.apply(normalised(store, CLEAN)), atol=1e-5)


def test_a_chain_with_masks(tmp_path: Path) -> None:
    small = blurred(CLEAN).reshape(N, 1, 4, 2, 5, 2).mean((3, 5))
    masks = masks_of(N, (4, 5))
    np.save(tmp_path / "psf.npy", PSF)
    parts = [{"kind": "blur", "kernel": str(tmp_path / "psf.npy")}, "downsampling", {"kind": "mask", "delta": 0.2}]
    law = {"kind": "compose", "operators": parts, "sigma_n": 2.0}
    source = array_source(masks.astype(np.uint8), "masks", layout="NHW")
    store = import_(tmp_path, small, None, corruption=law, masks=source)
    y, operator = everything(store)
    assert store.image_shape == (1, 8, 10) and np.array_equal(operator.condition()[:, 0], masks)
    np.testing.assert_allclose(y, operator.apply(normalised(store, CLEAN)), atol=1e-5)
    assert isinstance(store.corruption, Compose)
    mask = store.corruption.parts[2]
    assert isinstance(mask, Mask) and mask.delta == 0.2 and isinstance(mask.masks, Embedded)
    np.testing.assert_array_equal(mask.masks.array[:, 0], masks)
    assert store.corruption.sigma_max == pytest.approx(2 / store.manifest.normalisation.scale)


def test_equal_imports_write_equal_bytes(tmp_path: Path) -> None:
    masks = array_source(masks_of(N, (8, 10)).astype(np.uint8), "masks")
    law = {"kind": "compose", "operators": [{"kind": "blur", "size": 3}, "mask"]}
    stores = [
        import_measurements(array_source(CLEAN, layout="NCHW"), tmp_path / name, 1.0, corruption=law, masks=masks)
        for name in "ab"
    ]
    assert stores[0].fingerprint == stores[1].fingerprint and stores[0].corruption == stores[1].corruption


# what is refused, each in one line


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (
            "{kind: blur, kernel: motion, size: 5}",
            "draws a kernel for each measurement, but real measurements have their own; state",
        ),
        ("{kind: blur, kernel: nowhere.npy}", "nowhere.npy: no such file"),
        ("{kind: compose, operators: [downsampling, mask]}", "draws a mask for each measurement"),
        ("{kind: mask, pattern: stripes}", "draws a mask for each measurement"),
        ("{kind: blur, clean_fraction: 0.1}", "corruption.clean_fraction is for simulated measurements"),
        ("{kind: blur, weights: [1, 2]}", "corruption.weights is for simulated measurements"),
        ("{kind: blur, sigma_n: 0.1}", "sigma_n is stated twice"),
        ("{kind: poisson}", "corruption.gain is missing: state how much one photon adds in the units of the files"),
        ("{kind: poisson, gain: 1}", "sigma_n: kind poisson derives it from corruption.gain and read_noise"),
        ("{kind: fog}", "'fog' is not a known kind: use one of"),
        ("fog", "'fog' is not a known kind: use one of"),
        ("{p: 0.5}", "--corruption: must state the kind of corruption"),
        ("{kind: mask", "--corruption: is not YAML"),
        ("nowhere.yaml", "nowhere.yaml: no such file"),
        ("{kind: function, name: unknown}", "name its file with --operator unknown.py"),
    ],
)
def test_laws_that_are_refused(
    law: str, words: str, fails: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("scans.npy", CLEAN[:, 0])
    assert words in fails("import", "scans.npy", "--corruption", law, "--sigma-n", 1, "--out", "y")


def test_counts_that_cannot_be(tmp_path: Path) -> None:
    _, measured = counts(N, 2.0, 0.0, 100.0)
    for law, words in [
        (
            {"gain": 2.0, "zero": 500},
            "corruption.zero 500, the value of no light, must lie below what becomes white",
        ),
        (
            {"gain": 2.0, "zero": 150},
            r"scans: image 0 holds \d+, below the value of no light, 150; state",
        ),
        ({"gain": 900.0}, "photon noise exceeds the variation of the measurements; state a smaller corruption.gain"),
        ({"gain": "high"}, "corruption.gain"),
        ({"gain": 2.0, "gian": 2.0}, "unknown key corruption.gian: did you mean corruption.gain?"),
    ]:
        with pytest.raises(UserError, match=words):
            import_(tmp_path, measured, None, corruption={"kind": "poisson", **law})
    assert not list(tmp_path.iterdir())


def test_a_centred_box_is_the_same_for_all(tmp_path: Path) -> None:
    store = import_(tmp_path, CLEAN, 0.0, corruption={"kind": "mask", "pattern": "centre-box", "p": 0.25})
    y, operator = everything(store)
    assert torch.equal(y == 0, ~operator.condition()) and int((~operator.condition()[0]).sum()) == 20
    observed = CLEAN[operator.condition().numpy()]
    np.testing.assert_allclose(store.manifest.value_range, np.percentile(observed, (0.1, 99.9)), rtol=1e-5)
    assert store.corruption == Mask(pattern="centre-box", p=0.25)


# in a recipe


def test_a_recipe_of_masked_measurements(tmp_path: Path) -> None:
    np.save(tmp_path / "scans.npy", np.where(masks_of(N, (8, 8)), CLEAN[:, 0, :, :8], np.nan))
    more = [f"data.source={tmp_path / 'scans.npy'}", "data.content=measurements", "data.masks=nan", "data.resize=null"]
    recipe = load_recipe("tiny-noise", [*more, "corruption={kind: blur, size: 3, sigma_n: 4}"])
    with working_on(tmp_path / "run", recipe) as run:
        store = prepare_store(run)
    assert isinstance(store.corruption, Compose) and [part.kind for part in store.corruption.parts] == ["blur", "mask"]
    assert store.corruption.sigma_max == pytest.approx(4 / store.manifest.normalisation.scale)


def test_a_recipe_of_counts_with_a_pedestal(tmp_path: Path) -> None:
    np.save(tmp_path / "scans.npy", counts(N, 2.0, 3.0, 100.0)[1][:, 0])
    law = "corruption={kind: poisson, gain: 2, read_noise: 3, zero: 100}"
    more = [f"data.source={tmp_path / 'scans.npy'}", "data.content=measurements", "data.resize=null", law]
    with working_on(tmp_path / "run", load_recipe("tiny-noise", more)) as run:
        store = prepare_store(run)
    assert isinstance(store.corruption, Poisson)
    assert store.corruption.gain == pytest.approx(2 / store.manifest.normalisation.scale)


def test_recipes_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.masks: needs data.content measurements"):
        load_recipe("digits-noise", ["data.masks=nan"])
    np.save(tmp_path / "scans.npy", CLEAN[:, 0])
    more = [f"data.source={tmp_path / 'scans.npy'}", "data.content=measurements", "data.resize=null"]
    for law, words in {
        "{kind: noise, sigma_n: [1, 2]}": "needs a corruption with one sigma_n",
        "{kind: mask}": "draws a mask for each measurement",
    }.items():
        with (
            pytest.raises(UserError, match=words),
            working_on(tmp_path / "run", load_recipe("tiny-noise", [*more, f"corruption={law}"])) as run,
        ):
            prepare_store(run)
        assert not (tmp_path / "run").exists()


def test_a_run_needs_no_file_that_its_recipe_named(call: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "psf.npy", PSF)
    recipe = load_recipe("digits-noise", [f"corruption={{kind: blur, kernel: {tmp_path / 'psf.npy'}}}"])
    with working_on(tmp_path / "run", recipe) as run:
        prepare_store(run)
    other = load_recipe("digits-noise", ["corruption={kind: blur, kernel: gaussian}"])
    with pytest.raises(UserError, match="holds a run of another recipe") as caught, working_on(tmp_path / "run", other):
        pass
    assert len(str(caught.value)) < 500  # the kernel is not written out
    (tmp_path / "psf.npy").unlink()
    again = load_recipe(tmp_path / "run")
    assert again == recipe and again.build_corruption() == open_store(tmp_path / "run" / "store").corruption


def test_masks_may_be_kept_in_many_ways(tmp_path: Path) -> None:
    masks = masks_of(3, (8, 10))
    for kind in ("folder", "npy", "npz"):
        found = np.stack(list(open_masks(save_masks(kind, tmp_path, masks))))
        assert np.array_equal(found[:, 0] != 0, masks) and found.shape[2:] == (8, 10)


def test_a_whole_run_of_masked_measurements(call: Cli, tmp_path: Path) -> None:
    masks = masks_of(N, (8, 8))
    np.save(tmp_path / "scans.npy", CLEAN[:, 0, :, :8] * masks)
    np.save(tmp_path / "masks.npy", masks)
    words = ["--masks", tmp_path / "masks.npy", "--out", tmp_path / "y"]
    call("import", tmp_path / "scans.npy", "--sigma-n", 5, *words)
    call("pretrain", tmp_path / "y", "--recipe", "digits-noise", "--out", tmp_path / "run", *settings())
    call("distill", tmp_path / "run")
    call("sample", tmp_path / "run", "-n", 3, "--out", tmp_path / "samples")
    generator = load_generator(tmp_path / "run")
    drawn = generator.to_physical(generator.sample(3))
    found = np.stack([np.load(tmp_path / "samples" / f"00000{k}.npy") for k in range(3)])
    np.testing.assert_allclose(found, drawn.numpy(), rtol=1e-4, atol=1e-3)  # in the units of the files
    assert found.std() > 1
