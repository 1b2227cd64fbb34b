"""K-space to a store: masks, crops, virtual coils, maps, scales, and the law that phase II draws from.

What is imported is made with numpy, and compared with numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kspace import SIZE, coil_maps, inverse, lines, measured, pictures, transform, write_h5
from restill import acquisition
from restill.acquisition import DataSettings
from restill.core.errors import UserError
from restill.core.tensors import channels_to_complex, complex_to_channels, seeded
from restill.corruption import Embedded, Mri, MriOperator
from restill.corruption.mri.maps import coarse
from restill.estimation import compress_coils
from restill.runs import prepare_store, pretrain, working_on
from restill.store import Store, open_store
from restill.store.reference import open_reference
from tiny import different, tiny_recipe

pytest.importorskip("h5py")
Cli = Callable[..., str]
N, COILS = 5, 4
K = measured(N, COILS)
X = pictures(N)
H, W = SIZE
FULL_MAPS = np.broadcast_to(coil_maps(COILS), (N, COILS, *SIZE))


def import_kspace(path: Path, out: Path, **options: Any) -> Store:
    """With settings of data among the options."""
    stated = {key: options.pop(key) for key in ("crop", "coils", "maps") if key in options}
    if "maps" in stated:
        stated["maps"] = str(stated["maps"])
    if isinstance(options.get("mask"), Path):
        stated["masks"] = str(options.pop("mask"))
    return acquisition.import_kspace(path, out, DataSettings(content="measurements", **stated), **options)


def everything(store: Store) -> tuple[torch.Tensor, MriOperator, np.ndarray]:
    batch = store.batch(torch.arange(len(store)))
    assert isinstance(batch.operator, MriOperator) and store.scale is not None
    return batch.y, batch.operator, store.scale.numpy()[:, None, None]


def physical(store: Store) -> np.ndarray:
    """K-space of a store in the units of the files, `[n, coils, H, W]`."""
    y, _, scale = everything(store)
    return channels_to_complex(y).numpy() * scale[:, None]


def image(store: Store) -> np.ndarray:
    """Combined zero-filled images in the units of the files."""
    y, operator, scale = everything(store)
    return channels_to_complex(operator.to_image(y)).numpy()[:, 0] * scale


def write(tmp_path: Path, name: str = "brain.h5", **arrays: Any) -> Path:
    return write_h5(tmp_path / name, **{"kspace": K, **arrays})


def digests(store: Store) -> list[str]:
    return [shard.sha256 for shard in store.manifest.shards]


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-5) -> None:
    assert a.shape == b.shape and np.abs(a - b).max() < tolerance * np.abs(b).max()


# what is stored


def test_one_coil_that_is_fully_sampled_is_the_image(tmp_path: Path) -> None:
    """The map of one coil is 1 on its support, so that the image is that of the files."""
    path = write(tmp_path, kspace=transform(X)[:, None].astype(np.complex64))
    store = import_kspace(path, tmp_path / "y")
    assert store.shape == (2, H, W) and store.image_shape == (2, H, W) and store.is_complex
    _, operator, _ = everything(store)
    on = operator.maps[:, 0, ..., 0].numpy() > 0.5
    assert on.mean() > 0.98
    assert np.abs((image(store) - X)[on]).max() < 1e-5
    assert bool(operator.mask.all()) and operator.mask.shape == (N, 1, 1, W)
    close(physical(store), transform(X)[:, None])


@pytest.mark.parametrize("maps", ["file", "path", "one for all"])
def test_four_coils_with_their_maps_are_the_image(tmp_path: Path, maps: str) -> None:
    options: dict[str, Any] = {}
    if maps == "file":
        path = write(tmp_path, maps=FULL_MAPS)
    else:
        path, options = write(tmp_path), {"maps": tmp_path / "maps.npy"}
        np.save(tmp_path / "maps.npy", FULL_MAPS if maps == "path" else FULL_MAPS[0])
    store = import_kspace(path, tmp_path / "y", **options)
    close(image(store), X)
    close(physical(store), K)
    close(torch.view_as_complex(everything(store)[1].maps).numpy(), FULL_MAPS)


def test_four_coils_with_estimated_maps(tmp_path: Path) -> None:
    residuals: dict[str, float] = {}
    path = write(tmp_path)
    store = import_kspace(path, tmp_path / "y", told=residuals.__setitem__)
    _, operator, _ = everything(store)
    maps = torch.view_as_complex(operator.maps).numpy()
    energy = (np.abs(maps) ** 2).sum(1)
    on = energy > 0.5
    assert on.mean() > 0.9 and np.abs(energy[on] - 1).max() < 1e-5 and not energy[~on].any()
    inside = np.zeros_like(on)
    inside[:, 4:-4, 4:-4] = on[:, 4:-4, 4:-4]
    error = np.abs(maps - FULL_MAPS).max(1)[inside]
    assert np.median(error) < 0.03 and np.quantile(error, 0.99) < 0.2
    assert list(residuals) == [f"{path}: slice {i}" for i in range(N)] and max(residuals.values()) < 0.1


def test_what_phase_two_draws(tmp_path: Path) -> None:
    """Measured masks, and measured maps that are coarse; here they are small enough to be as they are."""
    masks = np.stack([lines(every=k) for k in (2, 3, 2, 4, 3)])
    store = import_kspace(write(tmp_path, mask=masks), tmp_path / "y", sigma_n=0.01)
    law, (_, operator, scale) = store.corruption, everything(store)
    assert isinstance(law, Mri) and law.pattern == "files" and law.coils == COILS and law.acs == 4
    assert isinstance(law.masks, Embedded) and isinstance(law.maps, Embedded)
    assert np.array_equal(law.masks.array, np.stack([lines(every=k) for k in (2, 3, 4)])[:, None, None])
    assert np.array_equal(law.maps.array, coarse(operator.maps).numpy())
    assert law.acceleration == pytest.approx((W / masks.sum(1)).mean(), abs=1e-4)
    np.testing.assert_allclose(sorted(law.sigma_n), sorted(0.01 / scale.ravel()), rtol=1e-5)
    drawn = law.draw(8, store.image_shape, seeded("test"))
    assert all(mask.ravel().tolist() in masks.tolist() for mask in drawn.mask.numpy())
    further = law.further(operator, seeded("test"))
    assert 0 < int(further.mask.sum()) < int(operator.mask.sum()) and not bool((further.mask & ~operator.mask).any())


def test_every_slice_has_its_scale_and_its_noise(tmp_path: Path) -> None:
    """Slices that are a thousand times brighter are the same in the store, and their noise is a thousandth."""
    factor = 10.0 ** np.array([0, 3, -3, 5, 1], dtype=np.float32)
    levels = np.array([0.01, 0.0, 0.02, 0.03, 0.01])
    plain = import_kspace(write(tmp_path), tmp_path / "plain")
    store = import_kspace(
        write(tmp_path, "bright.h5", kspace=K * factor[:, None, None, None]),
        tmp_path / "y",
        sigma_n=levels * factor,
    )
    assert store.scale is not None and plain.scale is not None and store.scale.dtype == torch.float32
    np.testing.assert_allclose(store.scale.numpy(), plain.scale.numpy() * factor, rtol=1e-4)
    np.testing.assert_allclose((store.sigma_n * store.scale).numpy(), levels * factor, rtol=1e-5)
    close(physical(store) / factor[:, None, None, None], K, 1e-4)
    summary = store.manifest.sigma_n
    assert (summary.min, summary.max) == (float(store.sigma_n.min()), float(store.sigma_n.max())) and not summary.min
    magnitude = np.abs(image(plain)).max((1, 2)) / plain.scale.numpy()
    assert (magnitude > 0.6).all() and (magnitude < 1.5).all()
    assert open_store(tmp_path / "y").batch(torch.tensor([3])).y.shape == (1, 2 * COILS, H, W)


# masks


def test_lines_that_are_zero_were_not_measured(tmp_path: Path) -> None:
    stored = import_kspace(write(tmp_path, kspace=K * lines()), tmp_path / "found")
    stated = import_kspace(write(tmp_path, mask=lines()), tmp_path / "file")
    np.save(tmp_path / "mask.npy", lines())
    given = import_kspace(write(tmp_path), tmp_path / "given", mask=tmp_path / "mask.npy")
    array = import_kspace(write(tmp_path), tmp_path / "array", mask=lines())
    assert np.array_equal(everything(stored)[1].mask.numpy(), np.broadcast_to(lines(), (N, 1, 1, W)))
    assert digests(stored) == digests(given) == digests(array)
    assert stated.corruption == given.corruption == stored.corruption


def test_points_that_are_zero_were_not_measured(tmp_path: Path) -> None:
    points = np.random.default_rng(0).random(SIZE) < 0.5
    points[H // 2 - 6 : H // 2 + 6, W // 2 - 6 : W // 2 + 6] = True
    store = import_kspace(write(tmp_path, kspace=K * points), tmp_path / "y")
    assert np.array_equal(everything(store)[1].mask.numpy(), np.broadcast_to(points, (N, 1, *SIZE)))
    some = K.copy()
    some[0, :, 3, 5] = 0  # one sample of 768 may be zero by chance
    store = import_kspace(write(tmp_path, kspace=some), tmp_path / "chance")
    assert bool(everything(store)[1].mask.all())


def test_lines_and_points_in_one_store_have_one_form(tmp_path: Path) -> None:
    points = np.ones((N, H, W), dtype=bool)
    points[1, :5] = False  # an echo that begins late
    store = import_kspace(write(tmp_path, mask=points & lines()), tmp_path / "y")
    assert np.array_equal(everything(store)[1].mask.numpy(), (points & lines())[:, None])


@pytest.mark.parametrize("junk", [1e3, np.nan, np.inf])
def test_unmeasured_samples_cannot_matter(tmp_path: Path, junk: float) -> None:
    """Bit-equal stores, and bit-equal weights after some steps of a teacher."""
    noise = np.random.default_rng(0).standard_normal(K.shape) * junk
    soiled = np.where(lines(), K, noise.astype(np.complex64))
    clean = import_kspace(write(tmp_path, "a.h5", kspace=K * lines(), mask=lines()), tmp_path / "clean", crop=(24, 20))
    dirty = import_kspace(write(tmp_path, "b.h5", kspace=soiled, mask=lines()), tmp_path / "dirty", crop=(24, 20))
    assert digests(clean) == digests(dirty) and clean.manifest.corruption == dirty.manifest.corruption
    if junk == 1e3:
        assert different(weights(clean, tmp_path / "run"), weights(dirty, tmp_path / "other")) == []


def weights(store: Store, folder: Path) -> dict[str, torch.Tensor]:
    recipe = tiny_recipe(
        data={"source": str(store.path), "content": "store"},
        corruption=store.corruption.describe(),
        network={"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
        teacher={"images": 12, "batch_size": 4},
    )
    with working_on(folder, recipe) as run:
        prepare_store(run)
        pretrain(run)
        return load_file(run.stage("teacher") / "model.safetensors")


# crop


def middle(x: np.ndarray, axis: int, size: int) -> np.ndarray:
    start = x.shape[axis] // 2 - size // 2
    return np.take(x, np.arange(start, start + size), axis)


@pytest.mark.parametrize("crop", [(24, 24), (23, 24), (32, 17), (20, 18)], ids=str)
def test_a_crop_of_full_sampling_is_of_the_field_of_view(tmp_path: Path, crop: tuple[int, int]) -> None:
    store = import_kspace(write(tmp_path, maps=FULL_MAPS), tmp_path / "y", crop=crop)
    assert store.image_shape == (2, *crop) and bool(everything(store)[1].mask.all())
    close(image(store), middle(middle(X, 1, crop[0]), 2, crop[1]))


@pytest.mark.parametrize("crop", [(23, 24), (32, 17), (20, 18)], ids=str)
def test_a_crop_of_undersampled_lines_is_of_the_resolution(tmp_path: Path, crop: tuple[int, int]) -> None:
    """Rows are a field of view still; lines stay what they were."""
    store = import_kspace(write(tmp_path, mask=lines()), tmp_path / "y", crop=crop)
    kept = middle(lines(), 0, crop[1])
    assert np.array_equal(everything(store)[1].mask.numpy(), np.broadcast_to(kept, (N, 1, 1, crop[1])))
    rows = middle(np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(K, 2), axis=2, norm="ortho"), 2), 2, crop[0])
    wanted = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(rows, 2), axis=2, norm="ortho"), 2)
    close(physical(store), middle(wanted, 3, crop[1]) * kept)


def test_zero_filling_at_the_edges_is_a_resolution(tmp_path: Path) -> None:
    """The measured band keeps its place in cycles per pixel when the field of view is cropped."""
    band = np.zeros(W, dtype=bool)
    band[3:21] = True
    store = import_kspace(write(tmp_path, kspace=K * band), tmp_path / "y", crop=(32, 16))
    mask = everything(store)[1].mask[0, 0, 0].numpy()
    frequency = (np.arange(16) - 8) / 16
    assert np.array_equal(mask, (frequency >= (3 - 12) / 24) & (frequency <= (20 - 12) / 24)) and not mask.all()
    field = transform(middle(inverse(K * band), 3, 16))
    close(physical(store), field * mask)
    stated = import_kspace(write(tmp_path, "b.h5", mask=band), tmp_path / "z", crop=(32, 16))
    assert digests(stated) == digests(store)  # what lies beyond the band is not mixed in by the crop


def test_maps_are_cropped_with_the_images(tmp_path: Path) -> None:
    store = import_kspace(write(tmp_path, mask=lines(), maps=FULL_MAPS), tmp_path / "y", crop=(20, 12))
    maps = torch.view_as_complex(everything(store)[1].maps).numpy()
    wanted = middle(FULL_MAPS, 2, 20)[..., ::2]  # half the resolution: every second pixel, the centre among them
    wanted = wanted / np.sqrt((np.abs(wanted) ** 2).sum(1, keepdims=True))
    close(maps, wanted)


# virtual coils


def test_virtual_coils(tmp_path: Path) -> None:
    """Those of the calibration lines of every slice, for maps and k-space alike."""
    k = measured(N, 6)
    path = write(tmp_path, kspace=k, mask=lines(), maps=coil_maps(6))
    store = import_kspace(path, tmp_path / "y", coils=3)
    assert store.shape == (6, H, W)
    wanted, matrix = compress_coils(torch.from_numpy(k * lines()), 3, (24, 8))
    close(physical(store), wanted.numpy(), 1e-4)
    maps = matrix @ torch.from_numpy(coil_maps(6)).flatten(1)
    maps = (maps / torch.linalg.vector_norm(maps, dim=1, keepdim=True)).unflatten(2, SIZE)
    close(torch.view_as_complex(everything(store)[1].maps).numpy(), maps.numpy(), 1e-4)


def test_files_of_different_coils_become_alike(tmp_path: Path) -> None:
    write_h5(tmp_path / "scans" / "a.h5", kspace=measured(2, 6))
    write_h5(tmp_path / "scans" / "b.h5", kspace=measured(1, 3, (36, 24)))
    store = import_kspace(tmp_path / "scans", tmp_path / "y", crop=(32, 24))
    assert store.shape == (6, 32, 24) and len(store) == 3
    alone = import_kspace(tmp_path / "scans" / "a.h5", tmp_path / "a", crop=(32, 24), coils=3)
    torch.testing.assert_close(store.batch(torch.arange(2)).y, alone.batch(torch.arange(2)).y, rtol=1e-4, atol=1e-4)
    write_h5(tmp_path / "many" / "a.h5", kspace=measured(1, 12))
    assert import_kspace(tmp_path / "many", tmp_path / "many.store").shape[0] == 16


# undersampling what is fully sampled


LAW = {"kind": "mri", "acceleration": 2.5, "acs": 6}


@pytest.mark.parametrize("pattern", ["random", "equispaced"])
def test_dropped_lines_are_those_of_the_law(tmp_path: Path, pattern: str) -> None:
    law = {**LAW, "pattern": pattern}
    path = write(tmp_path, maps=FULL_MAPS)
    store = import_kspace(path, tmp_path / "y", reference=tmp_path / "x", corruption=law, seed=7, sigma_n=0.01)
    _, operator, _ = everything(store)
    stated = Mri(**{name: value for name, value in law.items() if name != "kind"})  # type: ignore[arg-type]
    masks = [stated.draw(1, (2, H, W), seeded("corrupt", 7, i)).mask for i in range(N)]
    assert torch.equal(operator.mask, torch.cat(masks)) and not bool(operator.mask.all())
    assert len({tuple(mask.ravel().tolist()) for mask in masks}) > 1
    close(physical(store), K * operator.mask.numpy())
    drawn = store.corruption
    assert isinstance(drawn, Mri) and (drawn.pattern, drawn.acceleration, drawn.acs) == (pattern, 2.5, 6)
    clean = open_reference(tmp_path / "x")
    assert clean.is_complex and clean.scale is not None and torch.equal(clean.scale, store.scale)  # type: ignore[arg-type]
    x = clean.images(torch.arange(N))
    close(channels_to_complex(x).numpy()[:, 0] * clean.scale[:, None, None].numpy(), X)
    torch.testing.assert_close(operator.apply(x), everything(store)[0], rtol=0, atol=1e-5)


def test_maps_of_undersampled_lines_do_not_see_the_dropped_ones(tmp_path: Path) -> None:
    """The same lines kept from other data give the same store, bit for bit; the reference differs."""
    first = import_kspace(write(tmp_path), tmp_path / "y", reference=tmp_path / "x", corruption=LAW, coils=3)
    other = np.where(everything(first)[1].mask.numpy(), K, K[::-1] + 1).astype(np.complex64)
    path = write(tmp_path, "other.h5", kspace=other)
    second = import_kspace(path, tmp_path / "y2", reference=tmp_path / "x2", corruption=LAW, coils=3)
    assert digests(first) == digests(second) and first.manifest.corruption == second.manifest.corruption
    assert digests(open_reference(tmp_path / "x")) != digests(open_reference(tmp_path / "x2"))


# how consistent it is


def test_a_slice_with_wrong_maps_stands_out(tmp_path: Path, call: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    maps = FULL_MAPS.copy()
    maps[3] = maps[3, ::-1]
    path = write(tmp_path, maps=maps, mask=lines())
    found: dict[str, float] = {}
    import_kspace(path, tmp_path / "y", told=found.__setitem__)
    worst = max(found, key=lambda where: found[where])
    assert worst == f"{path}: slice 3" and found[worst] > 0.3
    assert max(value for where, value in found.items() if where != worst) < 0.15
    from restill.cli import app as cli

    assert cli._run_app(["import", str(path), "--out", str(tmp_path / "z")]) == 0
    captured = capsys.readouterr()
    assert "slice 3" in captured.out and captured.err.count("warning") == 1 and "slice 3" in captured.err
    assert cli._run_app(["import", str(path), "--out", str(tmp_path / "t"), "--tolerance", "0"]) == 0
    assert capsys.readouterr().err.count("warning") == N
    assert cli._run_app(["import", str(path), "--out", str(tmp_path / "u"), "--tolerance", "1"]) == 0
    assert "warning" not in capsys.readouterr().err


# the command and recipes


def test_the_command(tmp_path: Path, call: Cli) -> None:
    path = write(tmp_path)
    np.save(tmp_path / "maps.npy", FULL_MAPS)
    law = "{kind: mri, acceleration: 2, acs: 6, sigma_n: 0.01}"
    words = ["--corruption", law, "--crop", "30,20", "--coils", 2, "--maps", tmp_path / "maps.npy", "--seed", 3]
    told = call("import", path, "--out", tmp_path / "y", *words, "--reference", tmp_path / "x")
    assert "5 slices of 30x20, 2 coils" in told and "of k-space measured" in told and "coil maps leave" in told
    same = {"corruption": {**LAW, "acceleration": 2, "sigma_n": 0.01}, "crop": (30, 20), "coils": 2, "seed": 3}
    library = import_kspace(path, tmp_path / "lib", maps=tmp_path / "maps.npy", **same)  # type: ignore[arg-type]
    assert digests(open_store(tmp_path / "y")) == digests(library)
    assert open_reference(tmp_path / "x").image_shape == (2, 30, 20)
    np.save(tmp_path / "mask.npy", lines())
    told = call("import", path, "--out", tmp_path / "m", "--masks", tmp_path / "mask.npy", "--sigma-n", 0.01)
    assert f"{lines().mean():.1%} of k-space measured; sigma_n" in told
    told = call("info", tmp_path / "m")
    assert "shape [8, 32, 24]" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resize", "16"], "--resize is for images"),
        (["--range", "0,1"], "--range is for images"),
        (["--layout", "NHW"], "--layout is for images"),
        (["--sigma-unit", "data"], "--sigma-unit is for images"),
        (["--sigma-n", "auto"], "state the level in the units of the files"),
        (["--sigma-n", "1e6"], "show no coil maps beyond the stated noise, sigma_n 1e+06"),
        (["--crop", "33,24"], "crop 33,24"),
        (["--crop", "3"], "--crop: must be H,W, e.g. 128,128, not '3'"),
        (["--coils", "5"], "5 virtual coils cannot be made of 4 coils"),
        (["--corruption", "{kind: blur}"], "needs kind mri"),
        (["--corruption", "{kind: mri, maps: birdcage}"], "corruption.maps: is read from the k-space files"),
        (["--corruption", "{kind: mri, pattern: random}"], "needs corruption.acceleration"),
        (["--corruption", "{kind: mri, acceleration: 4, acs: 12}"], "corruption.acs 12 of 24 lines"),
        (["--corruption", "{kind: mri, acceleration: 0.5}"], "acceleration"),
        (["--corruption", "{kind: mri, acceleration: 4, acs: 2}"], "too small to estimate maps"),
        (["--reference", "x"], "state corruption.acceleration"),
        (["--tolerance", "2"], "--tolerance must lie between 0 and 1"),
        (["--masks", "absent.npy"], "absent.npy: no such file"),
        (["--maps", "absent.npy"], "absent.npy: no such file"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, fails: Cli, words: list[str], message: str) -> None:
    assert message in fails("import", write(tmp_path), "--out", tmp_path / "y", *words)


def test_options_of_kspace_are_refused_for_images(tmp_path: Path, fails: Cli) -> None:
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8)))
    for words in (["--crop", "8,8"], ["--coils", "2"], ["--maps", "m.npy"], ["--reference", "x"], ["--seed", "1"]):
        told = fails("import", tmp_path / "images.npy", "--out", tmp_path / "y", "--sigma-n", "1", *words)
        assert f"{words[0]} is for k-space" in told


BAD: dict[str, tuple[np.ndarray, dict[str, Any], dict[str, Any], str]] = {
    "already undersampled": (K * lines(), {}, {"corruption": LAW}, "is already undersampled"),
    "nan": (np.where(np.arange(N)[:, None, None, None] == 2, np.nan, K), {}, {}, "slice 2: holds NaN or infinity"),
    "all zero": (K * (np.arange(N) != 4)[:, None, None, None], {}, {}, "slice 4: all measured values are 0"),
    "no centre": (K * (np.arange(W) != W // 2), {}, {}, "slice 0: the centre of k-space"),
    "few centre lines": (K, {"mask": lines(acs=3, every=24)}, {}, "too small to estimate maps"),
    "mask of another size": (K, {}, {"mask": np.ones(W + 1)}, "give a mask [24]"),
    "more acs than there are": (
        K * lines(),
        {},
        {"corruption": {"kind": "mri", "acs": 12}},
        "a slice has 8 centre lines",
    ),
    "coils stated twice": (K, {}, {"corruption": {"kind": "mri", "coils": 9}}, "cannot be made of 4"),
    "sigma_n stated twice": (K, {}, {"corruption": {"kind": "mri", "sigma_n": 1}, "sigma_n": 1.0}, "stated twice"),
    "noise beyond all": (K, {"maps": FULL_MAPS}, {"sigma_n": 10.0}, "exceeds the root mean square"),
    "maps of NaN": (K, {"maps": FULL_MAPS * np.nan}, {}, "its maps hold NaN"),
}


@pytest.mark.parametrize("name", BAD)
def test_data_that_are_refused(tmp_path: Path, name: str) -> None:
    kspace, arrays, options, words = BAD[name]
    path = write(tmp_path, kspace=kspace.astype(np.complex64), **arrays)
    with pytest.raises(UserError) as caught:
        import_kspace(path, tmp_path / "y", **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["brain.h5"]


def test_maps_that_do_not_belong(tmp_path: Path) -> None:
    for maps, words in ((FULL_MAPS[:2], "holds maps of 2 slices"), (coil_maps(3), "give maps of the same coils")):
        np.save(tmp_path / "maps.npy", maps)
        with pytest.raises(UserError, match=words):
            import_kspace(write(tmp_path), tmp_path / "y", maps=tmp_path / "maps.npy")


def test_a_reference_needs_a_path_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be two stores"):
        import_kspace(write(tmp_path), tmp_path / "y", reference=tmp_path / "y", corruption=LAW)


def test_few_centre_lines_do_with_maps(tmp_path: Path) -> None:
    mask = lines(acs=2, every=24)
    store = import_kspace(write(tmp_path, mask=mask, maps=FULL_MAPS), tmp_path / "y")
    assert isinstance(store.corruption, Mri) and store.corruption.acs == 2
    close(physical(store), K * mask)


def test_recipes(tmp_path: Path, call: Cli) -> None:
    """The same store as from the library, with a reference where lines are dropped."""
    path = write(tmp_path)
    data = {"source": str(path), "content": "measurements", "crop": (30, 20), "coils": 2}
    with working_on(tmp_path / "run", tiny_recipe(data=data, corruption=LAW, seed=3)) as run:
        store = prepare_store(run)
        assert open_reference(run.reference).image_shape == (2, 30, 20)
    library = import_kspace(path, tmp_path / "lib", corruption=LAW, crop=(30, 20), coils=2, seed=3)
    assert digests(store) == digests(library)
    law = {"kind": "mri", "sigma_n": 0.01}
    with working_on(tmp_path / "as-is", tiny_recipe(data=data, corruption=law)) as run:
        assert prepare_store(run).sigma_n.min() > 0 and not run.reference.exists()
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"name: mine\ndata: {{source: {path}, content: measurements, crop: [30, 20]}}\n"
        "corruption: {kind: mri, acs: 4}\n"
        "network: {model_channels: 16, channel_mult: [1], num_blocks: 1, attn_resolutions: []}\n"
    )
    assert "k-space, 5 slices of 30 x 20" in call("info", recipe)


def test_recipes_that_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8)))
    with pytest.raises(UserError, match=r"data\.crop: needs data.content measurements"):
        tiny_recipe(data={"source": str(path), "crop": (8, 8)})
    for data, words in (
        ({"source": str(path), "resize": 16}, "data.resize is for images"),
        ({"source": str(tmp_path / "images.npy"), "coils": 2}, "data.coils is for k-space"),
        ({"source": str(path), "sigma_unit": "normalised"}, "data.sigma_unit is for images"),
    ):
        recipe = tiny_recipe(data={"content": "measurements", **data}, corruption={"kind": "mri"})
        with working_on(tmp_path / "run", recipe) as run, pytest.raises(UserError, match=words):
            prepare_store(run)


def test_channels_are_those_of_the_operator() -> None:
    """A guard for this file: real and imaginary part of each coil in turn."""
    k = torch.from_numpy(K)
    assert torch.equal(complex_to_channels(k)[:, 2], k[:, 1].real)


# units


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**66, 1e-30, 1e30], ids=str)
@pytest.mark.parametrize("maps", [False, True], ids=["estimated maps", "given maps"])
def test_units_do_not_matter(tmp_path: Path, factor: float, maps: bool) -> None:
    """The same store but for the scale, bit for bit where the factor is a power of two, and the same residuals."""
    found: list[dict[str, float]] = [{}, {}]
    stores = []
    for k, (number, told) in enumerate(zip((1.0, factor), found, strict=True)):
        path = write(
            tmp_path,
            f"{k}.h5",
            kspace=(K.astype(complex) * number).astype(np.complex64) * lines(),
            **({"maps": FULL_MAPS * np.float32(number)} if maps else {}),
        )
        options: dict[str, Any] = {"sigma_n": 0.01 * number, "crop": (30, 24), "coils": 3}
        stores.append(import_kspace(path, tmp_path / f"{k}.store", told=told.__setitem__, **options))
    plain, scaled = stores
    assert plain.scale is not None and scaled.scale is not None and bool(scaled.scale.isfinite().all())
    np.testing.assert_allclose(scaled.scale.double() / factor, plain.scale.double(), rtol=1e-5)
    exact = float(np.log2(factor)).is_integer()
    (y, operator, _), (other, same, _) = everything(plain), everything(scaled)
    torch.testing.assert_close(other, y, rtol=0, atol=0 if exact else 1e-5)
    torch.testing.assert_close(same.maps, operator.maps, rtol=0, atol=0 if exact else 1e-4)
    torch.testing.assert_close(same.sigma_n, operator.sigma_n, rtol=0 if exact else 1e-5, atol=0)
    assert bool((operator.sigma_n > 0.001).all()) and float(y.abs().max()) > 0.5
    np.testing.assert_allclose(list(found[1].values()), list(found[0].values()), rtol=1e-3)


def test_a_residual_that_is_no_number_is_not_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    from restill.cli.coil_residuals import Residuals

    residuals = Residuals()
    for where, value in (("a", 0.01), ("b", float("nan")), ("c", float("inf"))):
        residuals(where, value)
    residuals.warn(0.2)
    told = capsys.readouterr().err
    assert told.count("warning") == 2 and "b:" in told and "c:" in told and "a:" not in told


def test_a_slice_whose_maps_cannot_be_checked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import restill.acquisition.calibrated as module

    def unknown(kspace: torch.Tensor, *_: Any) -> torch.Tensor:
        return torch.tensor([0.1] * (len(kspace) - 1) + [torch.nan])

    monkeypatch.setattr(module, "calibration_residual", unknown)
    with pytest.raises(UserError, match="slice 4: its calibration lines show no coil maps"):
        import_kspace(write(tmp_path), tmp_path / "y")


@pytest.mark.parametrize(("factor", "words"), [(1e200, "beyond 1e38"), (1e-37, "multiply k-space"), (1e-60, "are 0")])
def test_values_that_float32_does_not_hold(tmp_path: Path, factor: float, words: str) -> None:
    path = write(tmp_path, kspace=K.astype(complex) * factor)
    with pytest.raises(UserError, match=words) as caught:
        import_kspace(path, tmp_path / "y")
    assert "slice 0" in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))


# what belongs together


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Eleven files of one slice each, scan1 to scan11, every one with another brightness."""
    for k in range(11):
        write_h5(tmp_path / "scans" / f"scan{k + 1}.h5", kspace=measured(1, 2, seed=k) * np.float32(2.0**k))
    return tmp_path / "scans"


def test_folders_are_in_natural_order_and_levels_are_found_by_name(tmp_path: Path, scans: Path) -> None:
    store = import_kspace(scans, tmp_path / "y")
    assert store.scale is not None and bool((store.scale.diff() > 0).all())
    (tmp_path / "levels.csv").write_text("".join(f"scan{k},{k}e-3\n" for k in range(11, 0, -1)))
    store = import_kspace(scans, tmp_path / "named", sigma_n=tmp_path / "levels.csv")
    np.testing.assert_allclose((store.sigma_n * store.scale).numpy(), np.arange(1, 12) * 1e-3, rtol=1e-5)
    (tmp_path / "bare.txt").write_text("\n".join(f"{k}e-3" for k in range(11)))
    with pytest.raises(UserError, match="--pairing position"):
        import_kspace(scans, tmp_path / "bare", sigma_n=tmp_path / "bare.txt")


def test_maps_are_found_by_name(tmp_path: Path, scans: Path) -> None:
    maps = np.stack([coil_maps(2) * np.exp(1j * k * np.arange(W)) for k in range(11)]).astype(np.complex64)
    for k in range(11):
        write_h5(tmp_path / "maps" / f"maps_{k + 1:03}.h5", maps=maps[k])
    store = import_kspace(scans, tmp_path / "y", maps=tmp_path / "maps")
    close(torch.view_as_complex(everything(store)[1].maps).numpy(), maps)
    np.save(tmp_path / "maps.npy", maps)
    with pytest.raises(UserError, match="without names, but by letter"):
        import_kspace(scans, tmp_path / "z", maps=tmp_path / "maps.npy")
    data = DataSettings(content="measurements", maps=str(tmp_path / "maps.npy"), pairing="position")
    assert digests(acquisition.import_kspace(scans, tmp_path / "z", data)) == digests(store)
    (tmp_path / "maps" / "maps_004.h5").rename(tmp_path / "maps" / "maps_014.h5")
    with pytest.raises(UserError, match="scan4 has none, and maps_014 belongs to no image"):
        import_kspace(scans, tmp_path / "w", maps=tmp_path / "maps")
    write_h5(tmp_path / "maps" / "maps_004.h5", maps=maps[:1])
    (tmp_path / "maps" / "maps_014.h5").unlink()
    write_h5(tmp_path / "maps" / "maps_005.h5", maps=np.repeat(maps[:1], 2, 0))
    (tmp_path / "maps" / "maps_006.h5").unlink()
    with pytest.raises(UserError, match="maps are paired"):
        import_kspace(scans, tmp_path / "w", maps=tmp_path / "maps")
