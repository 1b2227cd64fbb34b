"""K-space of foreign files: what is read, slice by slice, and what is refused in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kspace import SIZE, coil_maps, lines, measured, write_h5
from restill.core.errors import UserError
from restill.io import KspaceSource, is_kspace, open_kspace, open_maps, open_mask

pytest.importorskip("h5py")
K = measured(3, 4)
H, W = SIZE


def stack(source: KspaceSource) -> np.ndarray:
    return np.stack([item.kspace for item in source])


def refused(words: str, action: Callable[[], Any], named: Path) -> None:
    with pytest.raises(UserError) as caught:
        action()
    text = str(caught.value)
    assert words in text and str(named) in text, text
    assert "\n" not in text and len(text) < 400 + len(str(named))


@pytest.mark.parametrize("form", ["h5", "hdf5", "folder", "npy", "npz", "folder of npy"])
def test_forms(tmp_path: Path, form: str) -> None:
    path = tmp_path / "brain"
    if form in ("h5", "hdf5"):
        path = write_h5(tmp_path / f"brain.{form}", kspace=K, ismrmrd_header=b"<xml/>", reconstruction_rss=K.real)
    elif form == "folder":
        write_h5(path / "b.h5", kspace=K[1:])
        write_h5(path / "a" / "z.h5", kspace=K[:1])
        np.save(path / "notes.npy", np.zeros(3))  # beside HDF5 other files are not looked at
    elif form == "npy":
        path = tmp_path / "brain.npy"
        np.save(path, K)
    elif form == "npz":
        path = tmp_path / "brain.npz"
        np.savez_compressed(path, kspace=K.astype(np.complex128))
    else:
        path.mkdir()
        for i, each in enumerate(K):
            np.save(path / f"{i}.npy", each)
    assert is_kspace(path)
    source = open_kspace(path, "coils,height,width" if form == "folder of npy" else None)
    assert len(source) == 3 and source.coils == 4 and source.sizes == SIZE and source.name == path.name
    assert stack(source).dtype == np.complex64 and np.array_equal(stack(source), K)
    assert np.array_equal(stack(source), K)  # once more
    assert all(item.mask is None and item.maps is None for item in source)
    assert len({item.where for item in source}) == 3


@pytest.mark.parametrize("kind", ["lines", "points", "of slices", "points of slices", "fastmri"])
@pytest.mark.parametrize("form", ["h5", "npz"])
def test_masks_and_maps(tmp_path: Path, kind: str, form: str) -> None:
    points = np.ones(SIZE, dtype=np.uint8)
    points[5, 3] = 0
    of_slices = np.stack([lines(every=k) for k in (2, 3, 4)])
    mask, wanted = {
        "lines": (lines(), [lines()[None]] * 3),
        "points": (points, [points != 0] * 3),
        "of slices": (of_slices.astype(np.float32), list(of_slices[:, None])),
        "points of slices": (of_slices[:, None] & (points != 0), list(of_slices[:, None] & (points != 0))),
        "fastmri": (lines()[None, None, :, None], [lines()[None]] * 3),
    }[kind]
    maps, name = coil_maps(4), "maps" if kind == "lines" else "sensitivity_maps"
    path = tmp_path / f"brain.{form}"
    if form == "h5":
        write_h5(path, kspace=K, mask=mask, **{name: maps})
    else:
        np.savez(path, kspace=K, mask=mask, **{name: np.stack([maps] * 3)})
    items = list(open_kspace(path))
    for item, expected in zip(items, wanted, strict=True):
        assert item.mask is not None and item.mask.dtype == bool and np.array_equal(item.mask, expected)
        assert np.array_equal(item.maps, maps)
    assert len(open_maps(path)) == (1 if form == "h5" else 3)


def test_what_is_no_kspace(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8)))
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 8, 8)))
    np.savez(tmp_path / "complex.npz", signal=K)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    for name in ("images.npy", "images.npz", "empty", "broken.npy", "absent"):
        assert not is_kspace(tmp_path / name)
    assert is_kspace(tmp_path / "complex.npz")  # and then it is said what is missing


def test_masks_for_all(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", lines().astype(int))
    assert np.array_equal(open_mask(tmp_path / "m.npy"), lines()[None])
    np.savez(tmp_path / "m.npz", masks=np.ones(SIZE))
    assert open_mask(tmp_path / "m.npz").shape == SIZE and open_mask(tmp_path / "m.npz").all()
    np.save(tmp_path / "grey.npy", np.arange(24))
    refused("0 (not measured) and one other", lambda: open_mask(tmp_path / "grey.npy"), tmp_path / "grey.npy")
    np.savez(tmp_path / "two.npz", a=lines(), b=lines())
    refused("name the one with the mask", lambda: open_mask(tmp_path / "two.npz"), tmp_path / "two.npz")
    np.save(tmp_path / "deep.npy", np.ones((2, 3, 4)))
    refused("[width] or [height, width]", lambda: open_mask(tmp_path / "deep.npy"), tmp_path / "deep.npy")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no kspace": ({"data": K, "mask": lines()}, "has no 'kspace' but data, mask"),
    "real": ({"kspace": K.real}, "it must be complex numbers"),
    "five axes": ({"kspace": K[None]}, "expected [slices, coils, height, width]"),
    "three axes": ({"kspace": K[0]}, "4 slices of one coil, or one slice of 4 coils? Say --axes"),
    "two axes": ({"kspace": K[0, 0]}, "say --axes height,width"),
    "lines or points": ({"kspace": measured(32, 1), "mask": np.ones((32, 24))}, "lines of 32 slices, or points of 32"),
    "no slices": ({"kspace": K[:0]}, "expected [slices, coils, height, width]"),
    "coils last": ({"kspace": np.moveaxis(K, 1, -1)}, "which would be 32 coils of 24x4"),
    "coils swapped": ({"kspace": K.swapaxes(1, 2)}, "which would be 32 coils of 4x24"),
    "many coils": ({"kspace": np.ones((1, 65, 80, 80), np.complex64)}, "which would be 65 coils"),
    "maps of other coils": ({"kspace": K, "maps": coil_maps(3)}, "give both the same shape"),
    "maps of another size": ({"kspace": K, "sensitivity_maps": coil_maps(4, (32, 22))}, "give both the same shape"),
    "maps that are real": ({"kspace": K, "maps": coil_maps(4).real}, "maps holds float32"),
    "short mask": ({"kspace": K, "mask": lines()[:-1]}, "mask has shape [23]"),
    "empty mask": ({"kspace": K, "mask": np.zeros(W)}, "the mask measures nothing"),
    "grey mask": ({"kspace": K, "mask": np.arange(W)}, "0 (not measured) and one other"),
    "mask without centre": ({"kspace": K, "mask": np.arange(W) < 8}, "centre of k-space"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    arrays, words = BAD[name]
    path = write_h5(tmp_path / "bad.h5", **arrays)
    refused(words, lambda: list(open_kspace(path)), path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    for path in (write_h5(tmp_path / "cut.h5", kspace=K), tmp_path / "cut.npy", tmp_path / "cut.npz"):
        if path.suffix == ".npy":
            np.save(path, K)
        elif path.suffix == ".npz":
            np.savez(path, kspace=K)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        refused("cannot be read as", lambda path=path: list(open_kspace(path)), path)


def test_damage_inside_a_file_is_named(tmp_path: Path) -> None:
    """A chunk that does not decompress is found while iterating."""
    import h5py

    path = tmp_path / "bad.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=K, chunks=(1, 4, H, W), compression="gzip")
        info = file["kspace"].id.get_chunk_info(1)
    data = bytearray(path.read_bytes())
    data[info.byte_offset : info.byte_offset + info.size] = bytes(info.size)
    path.write_bytes(bytes(data))
    items = iter(open_kspace(path))
    assert np.array_equal(next(items).kspace, K[0])
    refused("cannot be read as HDF5", lambda: next(items), path)


def test_other_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("no such file", lambda: open_kspace(tmp_path / "absent.h5"), tmp_path / "absent.h5")
    (tmp_path / "empty").mkdir()
    refused("holds no k-space", lambda: open_kspace(tmp_path / "empty"), tmp_path / "empty")
    write_h5(tmp_path / "two" / "a.h5", kspace=K)
    other = write_h5(tmp_path / "two" / "b.h5", kspace=measured(1, 4, (30, 24)))
    refused("--crop H,W", open_kspace(tmp_path / "two").check_alike, other)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused("cannot be read", lambda: open_kspace(tmp_path / "objects.npy"), tmp_path / "objects.npy")
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused("pip install 'restill[mri]'", lambda: open_kspace(other), other)


ONE = K[:, 0]  # slices of one coil, or coils of one slice


@pytest.mark.parametrize("form", ["npy", "npz", "h5"])
@pytest.mark.parametrize(
    ("array", "axes", "shape"),
    [
        (ONE, "slices,height,width", (3, 1, H, W)),
        (ONE, "coils,height,width", (1, 3, H, W)),
        (ONE[0], "height,width", (1, 1, H, W)),
        (K, "slices,coils,height,width", (3, 4, H, W)),
        (K, None, (3, 4, H, W)),
    ],
    ids=str,
)
def test_axes_that_are_stated(tmp_path: Path, form: str, array: np.ndarray, axes: Any, shape: tuple[int, ...]) -> None:
    path = save(tmp_path / f"k.{form}", array)
    source = open_kspace(path, axes)
    assert np.array_equal(stack(source), array.reshape(shape)) and len(source) == shape[0]
    assert is_kspace(path)


def save(path: Path, array: np.ndarray, **others: Any) -> Path:
    if path.suffix == ".h5":
        return write_h5(path, kspace=array, **others)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        np.savez(path, kspace=array, **others)
    return path


@pytest.mark.parametrize("form", ["npy", "npz", "h5"])
def test_axes_are_asked_for(tmp_path: Path, form: str) -> None:
    """Three axes are never decided, whatever their lengths, and two only where they are said to be an image."""
    for array in (ONE, K[0], ONE[:1], measured(30, 1)[:, 0]):
        path = save(tmp_path / f"k.{form}", array)
        refused(f"{len(array)} slices of one coil", lambda path=path: open_kspace(path), path)
        refused("expected [height, width]", lambda path=path: open_kspace(path, "height,width"), path)
        refused("slices, coils, height", lambda path=path: open_kspace(path, "slices,coils,height,width"), path)
    path = save(tmp_path / f"two.{form}", ONE[0])
    refused("--axes height,width", lambda: open_kspace(path), path)


def test_single_coil_files_of_fastmri_say_their_axes(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5", kspace=ONE, reconstruction_esc=np.abs(ONE), reconstruction_rss=np.abs(ONE))
    source = open_kspace(path)
    assert source.coils == 1 and np.array_equal(stack(source)[:, 0], ONE)
    refused("expected [coils, height", lambda: open_kspace(save(tmp_path / "b.npy", K), "coils,height,width"), tmp_path)


def test_maps_of_one_coil_follow_its_axes(tmp_path: Path) -> None:
    """Of one coil three axes are slices; of several they are the coils of all slices."""
    path = save(tmp_path / "one.npz", ONE, maps=ONE * 2)
    items = list(open_kspace(path, "slices,height,width"))
    assert all(np.array_equal(item.maps[0], 2 * each) for item, each in zip(items, ONE, strict=True))
    assert len(open_maps(path, "slices,height,width")) == 3 and len(open_maps(path)) == 1
    square = save(tmp_path / "four.npz", measured(4, 4), maps=coil_maps(4))
    assert all(np.array_equal(item.maps, coil_maps(4)) for item in open_kspace(square))


def test_lines_of_as_many_slices_as_rows(tmp_path: Path) -> None:
    """A mask for each slice and one of points have the same shape then, unless it says that it is of lines."""
    of_slices = np.stack([lines(every=2 + k % 3) for k in range(H)])
    path = write_h5(tmp_path / "k.h5", kspace=measured(H, 1), mask=of_slices[:, None])
    for item, expected in zip(open_kspace(path), of_slices, strict=True):
        assert item.mask is not None and np.array_equal(item.mask, expected[None])
