"""K-space that lies elsewhere than its file should have it, and masks that claim too much: said, with a remedy."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kspace import coil_maps, lines, transform
from restill.acquisition import DataSettings, import_kspace
from restill.core.errors import DataWarning, UserError
from restill.estimation.centring import frequencies_centred, images_centred
from restill.io import KspaceSlice
from restill.io.kspace_shift import shifted, shifted_mask
from restill.store import Store

SIZE = (40, 32)
AXES = (-2, -1)


def objects(n: int, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """Ellipses with texture and a smooth phase in air, somewhat off the middle, complex `[n, 1, H, W]`."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(-1, 1, size[0])[:, None], np.linspace(-1, 1, size[1])
    a, b, u, v = rng.uniform((0.6, 0.6, -0.15, -0.15), (0.85, 0.85, 0.15, 0.15), (n, 4)).T[..., None, None]
    inside = ((y - u) / a) ** 2 + ((x - v) / b) ** 2 < 1
    image = inside * (0.5 + 0.5 * rng.random((n, *size))) * np.exp(1j * (y * u * 3 + x + 2 * v))
    return image[:, None]


def kspace(n: int = 3, coils: int = 4, size: tuple[int, int] = SIZE, forgotten: Sequence[str] = ()) -> np.ndarray:
    """K-space of a Fourier transform whose shifts are `forgotten` along some axes."""
    image = objects(n, size) * coil_maps(coils, size)
    for axis, name in zip(AXES, ("height", "width"), strict=True):
        if f"image-{name}" not in forgotten:
            image = np.fft.ifftshift(image, axis)
    k = np.fft.fft2(image, norm="ortho")
    for axis, name in zip(AXES, ("height", "width"), strict=True):
        if f"kspace-{name}" not in forgotten:
            k = np.fft.fftshift(k, axis)
    return k.astype(np.complex64)


def imported(folder: Path, k: np.ndarray, mask: np.ndarray | None = None, **data: Any) -> tuple[Store, list[str]]:
    """A store, and what was said."""
    folder.mkdir()
    np.savez(folder / "k.npz", kspace=k, **({} if mask is None else {"mask": mask}))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        settings = DataSettings(content="measurements", **data)
        store = import_kspace(folder / "k.npz", folder / "store", settings)
    assert all(each.category is DataWarning for each in said)
    return store, [str(each.message) for each in said]


FORGOTTEN = {
    "image": ("image-height", "image-width"),
    "kspace": ("kspace-height", "kspace-width"),
    "image-width": ("image-width",),
    "image-height": ("image-height",),
    "kspace-width": ("kspace-width",),
    "kspace-height": ("kspace-height",),
    "kspace,image": ("kspace-height", "kspace-width", "image-height", "image-width"),
    "kspace,image-height": ("kspace-height", "kspace-width", "image-height"),
}


@pytest.mark.parametrize("remedy", FORGOTTEN)
def test_a_forgotten_shift_is_named_with_the_remedy_that_gives_the_right_store(tmp_path: Path, remedy: str) -> None:
    """Bit for bit the store of k-space that was transformed rightly, and nothing more to say of it."""
    right, nothing = imported(tmp_path / "right", kspace())
    _, said = imported(tmp_path / "wrong", kspace(forgotten=FORGOTTEN[remedy]))
    mended, more = imported(tmp_path / "mended", kspace(forgotten=FORGOTTEN[remedy]), shift=remedy)
    assert nothing == more == [] and len(said) == len(remedy.split(","))
    assert all(f"--shift {word} " in each for word, each in zip(remedy.split(","), said, strict=True))
    assert all("k.npz" in each and len(each) <= 300 and "\n" not in each for each in said)
    a, b = right.batch(torch.arange(3)).y, mended.batch(torch.arange(3)).y
    assert float((a - b).abs().max()) < 1e-5 * float(a.abs().max())


@pytest.mark.parametrize("size", [(41, 33), (40, 33), (37, 30)], ids=str)
def test_odd_sizes_are_moved_by_the_phase_of_their_half(size: tuple[int, int]) -> None:
    right = kspace(size=size)
    for words in FORGOTTEN.values():
        wrong = kspace(size=size, forgotten=words)
        for wrong_slice, right_slice in zip(wrong, right, strict=True):
            moved = shifted(KspaceSlice("", wrong_slice, None, None), words)  # type: ignore[arg-type]
            assert moved.kspace.dtype == np.complex64
            assert np.abs(moved.kspace - right_slice).max() < 1e-5 * np.abs(right_slice).max()


def test_masks_move_with_the_frequencies_alone(tmp_path: Path) -> None:
    mask = lines(SIZE[1])
    item = KspaceSlice("", kspace()[0], mask[None], None)
    assert np.array_equal(shifted(item, ("kspace",)).mask, np.fft.fftshift(mask)[None])
    assert np.array_equal(shifted(item, ("image",)).mask, mask[None])
    points = np.random.default_rng(0).random(SIZE) < 0.5
    assert np.array_equal(shifted_mask(points, ("kspace-height",)), np.fft.fftshift(points, 0))
    right, _ = imported(tmp_path / "right", kspace(), mask)
    corner = kspace(forgotten=FORGOTTEN["kspace"])
    np.save(tmp_path / "mask.npy", np.fft.ifftshift(mask))
    stated, said = imported(tmp_path / "stated", corner, shift="kspace", masks=str(tmp_path / "mask.npy"))
    own, more = imported(tmp_path / "own", corner, np.fft.ifftshift(mask), shift=["kspace"])
    assert said == more == [] and right.manifest.shards[0].sha256 == own.manifest.shards[0].sha256
    assert own.manifest.shards[0].sha256 == stated.manifest.shards[0].sha256


def test_an_undersampled_corner_is_refused_with_the_remedy(tmp_path: Path) -> None:
    mask = np.fft.ifftshift(lines(SIZE[1]) & (np.arange(SIZE[1]) != 0))
    with pytest.raises(UserError, match="--shift kspace"):
        imported(tmp_path / "k", kspace(forgotten=FORGOTTEN["kspace"]) * mask)
    _, said = imported(tmp_path / "mended", kspace(forgotten=FORGOTTEN["kspace"]) * mask, shift="kspace")
    assert said == []


@pytest.mark.parametrize("coils", [1, 4, 8])
def test_both_numbers_change_their_sign_with_the_shift(coils: int) -> None:
    """Whatever is sampled and however much noise there is; noise alone is near 0, n = 40,960 values at least."""
    rng = np.random.default_rng(1)
    right = kspace(8, coils)
    wrong = kspace(8, coils, forgotten=FORGOTTEN["image"])
    corner = kspace(8, coils, forgotten=FORGOTTEN["kspace"])
    every, level = np.ones((1, SIZE[1]), bool), np.sqrt(np.mean(np.abs(right) ** 2))
    noise = (level / 2**0.5 * (rng.normal(size=right.shape) + 1j * rng.normal(size=right.shape))).astype(np.complex64)
    for mask in (every, lines(SIZE[1], 8, 4)[None], lines(SIZE[1], 4, 8)[None]):
        for add in (0, noise):
            for a, b in zip(right + add, wrong + add, strict=True):
                assert min(images_centred(a, mask)) > 0.15 and max(images_centred(b, mask)) < -0.15
                assert min(frequencies_centred(a, mask)) > 0.3 and min(frequencies_centred(b, mask)) > 0.3
    for a, b in zip(right, corner, strict=True):
        assert np.allclose(frequencies_centred(a, every), [-v for v in frequencies_centred(b, every)], atol=1e-6)
    alone = [(*images_centred(each, every), *frequencies_centred(each, every)) for each in noise]
    assert np.abs(np.mean(alone, 0)).max() < 0.1
    a = right[0] * lines(SIZE[1])
    found = images_centred(a, lines(SIZE[1])[None]), frequencies_centred(a, lines(SIZE[1])[None])
    for factor in (1e-30, 1e30):
        scaled = (a * factor).astype(np.complex64)
        again = images_centred(scaled, lines(SIZE[1])[None]), frequencies_centred(scaled, lines(SIZE[1])[None])
        np.testing.assert_allclose(again, found, rtol=1e-3)
    assert images_centred(0 * a, every) == frequencies_centred(0 * a, every) == (0, 0)


def test_an_object_that_fills_the_field_is_not_called_wrapped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = (1 + 0.3 * rng.random((4, 1, *SIZE))) * coil_maps(4, SIZE)
    assert imported(tmp_path / "k", transform(image).astype(np.complex64))[1] == []


# masks that claim what is empty


@pytest.mark.parametrize("claim", ["lines", "points", "of slices"])
def test_a_mask_that_claims_empty_lines_is_named(tmp_path: Path, claim: str) -> None:
    mask = lines(SIZE[1])
    every = {"lines": np.ones(SIZE[1]), "points": np.ones(SIZE), "of slices": np.ones((3, 1, SIZE[1]))}[claim]
    right, nothing = imported(tmp_path / "right", kspace() * mask)
    _, said = imported(tmp_path / "wrong", kspace() * mask, every)
    assert nothing == [] and len(said) == 1 and len(said[0]) <= 300 + len(str(tmp_path))
    words = f"says that 32 lines were measured, but {int((~mask).sum())} of them are 0 in all coils (and 2 more slices)"
    assert words in said[0] and "--masks nonzero" in said[0]
    mended, more = imported(tmp_path / "mended", kspace() * mask, every, masks="nonzero")
    assert more == [] and mended.manifest.shards[0].sha256 == right.manifest.shards[0].sha256


def test_a_stated_mask_that_claims_empty_rows_or_points_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.ones(SIZE[1]))
    late = np.ones(SIZE, bool)
    late[:6] = False
    points = np.random.default_rng(0).random(SIZE) < 0.9
    points[15:25, 11:21] = True
    for k, (mask, words) in enumerate(((late, "but 6 of them"), (points, "8% of what the mask says"))):
        _, said = imported(tmp_path / str(k), kspace() * mask, masks=str(tmp_path / "mask.npy"))
        assert len(said) == 1 and words in said[0]
    _, said = imported(tmp_path / "less", kspace(), lines(SIZE[1]))  # a mask may leave out what was measured
    assert said == []


def test_lines_that_are_rounding_are_named(tmp_path: Path) -> None:
    """Zeros that went through an image and back in float32 are no zeros any more."""
    mask = lines(SIZE[1])
    rng = np.random.default_rng(0)
    k = kspace()
    dust = 1e-7 * np.abs(k).max() * rng.normal(size=k.shape)
    _, said = imported(tmp_path / "dust", np.where(mask, k, dust).astype(np.complex64))
    assert len(said) == 1 and "rounding, no measurements? Give the mask" in said[0]
    smooth = np.exp(-np.square(np.arange(SIZE[1]) - SIZE[1] // 2) / 12)  # falls to 1e-9 without measured lines beyond
    _, said = imported(tmp_path / "smooth", (k * smooth).astype(np.complex64))
    assert said == []


def test_words_that_are_no_shift(tmp_path: Path, fails: Any) -> None:
    np.savez(tmp_path / "k.npz", kspace=kspace())
    for word in ("images", "", "kspace;image"):
        assert "--shift" in fails("import", tmp_path / "k.npz", "--out", tmp_path / "y", "--shift", word)
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8)))
    assert "--shift is for k-space" in fails(
        "import", tmp_path / "images.npy", "--out", tmp_path / "y", "--sigma-n", "1", "--shift", "image"
    )
