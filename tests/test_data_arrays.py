"""Arrays as images: layouts, types, labels, and what is refused."""

from __future__ import annotations

import builtins
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restill.core.errors import UserError
from restill.io import array_source, digits, open_images

RNG = np.random.default_rng(0)
X = RNG.random((5, 7, 9, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (X[..., 0], (1, 7, 9)),
        (X[..., :1], (1, 7, 9)),
        (X[..., :2], (2, 7, 9)),
        (X, (3, 7, 9)),
        (X.transpose(0, 3, 1, 2), (3, 7, 9)),
        (np.concatenate([X, X[..., :1]], -1).transpose(0, 3, 1, 2), (4, 7, 9)),
    ],
)
def test_auto_layout_finds_the_channels(tmp_path: Path, array: Any, shape: tuple[int, int, int]) -> None:
    np.save(tmp_path / "a.npy", array)
    source = open_images(tmp_path / "a.npy")
    assert source.shape == shape and len(source) == 5 and source.value_range is None
    for i, image in enumerate(source):
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image[0], X[i, :, :, 0])
        np.testing.assert_array_equal(image[shape[0] - 1], X[i, :, :, (shape[0] - 1) % 3])


@pytest.mark.parametrize("shape", [(5, 3, 8, 4), (5, 8, 3), (5, 16, 8, 16)])
def test_an_unclear_layout_asks_for_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).random(shape, np.float32)
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match="state layout"):
        open_images(tmp_path / "a.npy")
    layout = "NHW" if len(shape) == 3 else "NCHW"
    source = open_images(tmp_path / "a.npy", layout=layout)
    np.testing.assert_array_equal(np.stack(list(source)), array[:, None] if len(shape) == 3 else array)
    if len(shape) == 4:
        last = np.stack(list(open_images(tmp_path / "a.npy", layout="NHWC")))
        np.testing.assert_array_equal(last, np.moveaxis(array, 3, 1))
    with pytest.raises(UserError, match="does not fit layout"):
        open_images(tmp_path / "a.npy", layout="NHWC" if layout == "NHW" else "NHW")


@pytest.mark.parametrize(
    ("dtype", "nominal"), [("u1", (0, 255)), (">u2", None), ("i2", None), ("f2", None), ("f8", None)]
)
def test_types_and_their_ranges(dtype: str, nominal: tuple[float, float] | None) -> None:
    array = RNG.integers(0, 100, (2, 6, 6)).astype(dtype)
    source = array_source(array)
    assert source.value_range == nominal
    np.testing.assert_array_equal(np.stack(list(source))[:, 0], array.astype(np.float32))


@pytest.mark.parametrize("key", ["images", "x", "arr_0", "volume"])
def test_npz_keys_and_labels(tmp_path: Path, key: str) -> None:
    extra = {} if key == "volume" else {"other": np.zeros(2)}
    np.savez_compressed(tmp_path / "a.npz", **{key: X}, labels=np.arange(5, dtype=np.uint8), **extra)
    source = open_images(tmp_path / "a.npz")
    assert source.labels == (0, 1, 2, 3, 4) and source.shape == (3, 7, 9) and source.name == "a.npz"
    np.testing.assert_array_equal(np.stack(list(source)), X.transpose(0, 3, 1, 2))


def test_npz_with_several_arrays_asks_for_a_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=X, two=X)
    with pytest.raises(UserError, match=r"a\.npz: holds arrays one, two"):
        open_images(tmp_path / "a.npz")


@pytest.mark.parametrize("labels", [np.zeros(4, int), np.zeros(5), -np.ones(5, int), np.zeros((5, 1), int)])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: Any) -> None:
    np.savez(tmp_path / "a.npz", images=X, labels=labels)
    with pytest.raises(UserError, match=r"a\.npz: labels must be 5 integers"):
        open_images(tmp_path / "a.npz")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named_by_file_and_index(tmp_path: Path, bad: float) -> None:
    array = X.copy()
    array[3, 2, 2, 1] = bad
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy: image 3: holds NaN or infinity"):
        list(open_images(tmp_path / "a.npy"))


@pytest.mark.parametrize("array", [np.zeros((2, 8, 8), complex), np.zeros((2, 8, 8), bool), np.zeros((2, 8, 8), "U3")])
def test_numbers_that_are_no_pixels_are_refused(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy: holds numbers of type"):
        open_images(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(8, 8), (0, 8, 8), (2, 0, 8), (2, 1, 1, 8, 8)])
def test_shapes_that_are_no_images_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(UserError, match=r"a\.npy: has (image )?shape"):
        open_images(tmp_path / "a.npy")


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=trap)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "c.npy", trap, allow_pickle=True)
    for name in ("a.npy", "b.npz", "folder"):
        with pytest.raises(UserError, match=name):
            list(open_images(tmp_path / name))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("channels_first", [True, False])
def test_a_folder_and_a_zip_of_npy_files(tmp_path: Path, channels_first: bool) -> None:
    images = X.transpose(0, 3, 1, 2) if channels_first else X
    (tmp_path / "f").mkdir()
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for i, image in enumerate(images):
            np.save(tmp_path / "f" / f"{i}.npy", image)
            archive.write(tmp_path / "f" / f"{i}.npy", f"{i}.npy")
    for path in (tmp_path / "f", tmp_path / "f.zip"):
        source = open_images(path)
        assert source.shape == (3, 7, 9) and source.value_range is None
        np.testing.assert_array_equal(np.stack(list(source)), X.transpose(0, 3, 1, 2))
    np.save(tmp_path / "f" / "9.npy", X[0].astype(np.float64))
    with pytest.raises(UserError, match=r"9\.npy: is .* float64, but the 5 before"):
        open_images(tmp_path / "f")


def test_a_truncated_npy_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "a.npy", X[0])
    data = (tmp_path / "f" / "a.npy").read_bytes()
    for file in (tmp_path / "f" / "a.npy", tmp_path / "b.npy"):
        file.write_bytes(data[:-40])
    for path in (tmp_path / "f", tmp_path / "b.npy"):
        with pytest.raises(UserError, match=r"[ab]\.npy"):
            list(open_images(path))


def test_resizing_floats_keeps_their_range() -> None:
    array = np.zeros((1, 9, 12))
    array[0, :, 6:] = 1.0
    (image,) = array_source(array, resize=4)
    assert image.shape == (1, 4, 4) and image.min() >= 0 and image.max() <= 1
    assert image[0, :, 0].max() < 0.2 and image[0, :, 3].min() > 0.8
    (scaled,) = array_source(7 * array - 3, resize=4)
    np.testing.assert_allclose(scaled, 7 * image - 3, rtol=0, atol=1e-5)  # linear, and keeps constants


def test_digits_are_all_there() -> None:
    source = digits()
    images = np.stack(list(source))
    assert images.shape == (1797, 1, 8, 8) and source.value_range == (0, 16) == (images.min(), images.max())
    assert source.classes == tuple("0123456789") and source.labels is not None
    zeros, ones = (images[np.array(source.labels) == k].mean(0)[0] for k in (0, 1))
    assert zeros[3:5, 3:5].mean() < 2 < 12 < ones[3:5, 3:5].mean()  # a zero is hollow, a one is not


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"restill\[demo\]"):
        digits()


def test_brain_mri(shared_data: Path) -> None:
    path = shared_data / "brain-mri-128.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in shared/data")
    source = open_images(path, resize=32)
    assert (source.shape, len(source), source.value_range) == ((1, 32, 32), 3264, (0, 255))
    assert source.labels is not None and next(iter(source)).std() > 5
