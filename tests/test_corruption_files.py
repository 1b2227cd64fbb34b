"""Masks, kernels and embedded arrays as strangers hand them over: read, or refused in one line that names the file."""

from __future__ import annotations

import base64
import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from operators_list import random
from refusals import refused
from restill.core.errors import UserError
from restill.corruption import Blur, Embedded, Mask, corruption_from
from untrusted import Evil

FILES = {"kind": "mask", "pattern": "files"}


def test_mask_files(tmp_path: Path) -> None:
    """Binary, none empty; colour files whose channels agree are one mask; NaN is no mask."""
    binary = (random(4, 8, 8) < 0.5).astype(np.uint8)
    binary[:, 0, 0] = 1
    np.save(tmp_path / "good.npy", 255 * binary)
    law = Mask(pattern="files", masks=str(tmp_path / "good.npy"))
    assert law == Mask(pattern="files", masks=Embedded(binary[:, None] > 0))
    folder = tmp_path / "colour"
    folder.mkdir()
    for i, mask in enumerate(binary):
        PIL.Image.fromarray(np.repeat(255 * mask[..., None], 3, axis=2)).save(folder / f"{i}.png")
    assert Mask(pattern="files", masks=str(folder)) == law
    bad = {"grey": random(4, 8, 8), "empty": binary * np.array([1, 1, 0, 1], np.uint8)[:, None, None]}
    bad["nan"] = np.where(binary > 0, np.nan, 0.0)
    bad["signs"] = 2.0 * binary - 1
    for name, array in bad.items():
        np.save(tmp_path / f"{name}.npy", array)
    binary_only = "masks must be binary, 0 where a pixel is missing and one other value"
    for name, message in (("grey", binary_only), ("signs", binary_only), ("empty", "mask 2 hides everything")):
        refused({**FILES, "masks": str(tmp_path / f"{name}.npy")}, f"{name}.npy: {message}")
    refused({**FILES, "masks": str(tmp_path / "nan.npy")}, "nan.npy")
    (tmp_path / "text.txt").write_text("no masks")
    refused({**FILES, "masks": str(tmp_path / "text.txt")}, "text.txt: is not a folder of images or one of .zip")
    np.save(tmp_path / "pickled.npy", np.array([Evil(tmp_path / "evidence")]), allow_pickle=True)
    refused({**FILES, "masks": str(tmp_path / "pickled.npy")}, "pickled.npy: cannot be read as a plain NumPy array")
    assert not (tmp_path / "evidence").exists()


def test_kernel_files(tmp_path: Path) -> None:
    kernel = np.round(255 * random(3, 5)).astype(np.uint8)
    np.save(tmp_path / "k.npy", kernel)
    PIL.Image.fromarray(kernel).save(tmp_path / "k.png")
    PIL.Image.fromarray(np.repeat(kernel[..., None], 3, axis=2)).save(tmp_path / "grey-in-colour.png")
    palette = PIL.Image.fromarray(kernel).convert("P", palette=PIL.Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "palette.png")
    law = Blur(kernel=str(tmp_path / "k.npy"))
    for name in ("k.png", "grey-in-colour.png", "palette.png"):
        assert Blur(kernel=str(tmp_path / name)) == law
    assert isinstance(law.kernel, Embedded)
    np.testing.assert_allclose(law.kernel.array, kernel / kernel.sum(), rtol=1e-6)
    raw = Blur(kernel=str(tmp_path / "k.npy"), normalise=False)
    assert isinstance(raw.kernel, Embedded) and raw.kernel.array.sum() == kernel.sum()
    assert corruption_from(raw.describe()) == raw != law


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 3, 3)), "a kernel must be one grey image [height, width], not [3, 3, 3]"),
        (np.ones((4, 3)), "a kernel needs odd sides, so that it has a middle pixel, not 4 x 3"),
        (np.zeros((3, 3)), "a kernel must have finite values with a positive sum, not 0"),
        (-np.ones((3, 3)), "a kernel must have finite values with a positive sum, not -9"),
        (np.array([[1.0, np.inf, 1.0]]), "a kernel must have finite values with a positive sum, not inf"),
        (np.ones((3, 3), complex), "a kernel must hold real numbers, not complex128"),
        (np.array([["a"]]), "a kernel must hold real numbers, not <U1"),
        (np.ones((0, 3)), "a kernel must be one grey image [height, width], not [0, 3]"),
    ],
)
def test_kernel_files_of_other_things(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", array)
    refused({"kind": "blur", "kernel": str(tmp_path / "k.npy")}, f"k.npy: {message}")


def test_kernel_files_that_cannot_be_read(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([Evil(tmp_path / "evidence")]), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    with (tmp_path / "several.npy").open("wb") as file:
        np.savez(file, a=np.ones((3, 3)))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder").mkdir()
    colour = np.round(255 * random(3, 5, 3)).astype(np.uint8)
    PIL.Image.fromarray(colour).save(tmp_path / "colour.png")
    for name, message in (
        ("evil.npy", "cannot be read as a kernel"),
        ("cut.npy", "cannot be read as a kernel"),
        ("several.npy", "a kernel must hold real numbers, not several arrays"),
        ("text.png", "cannot be read as an image"),
        ("folder", "cannot be read as a kernel (Is a directory)"),
        ("colour.png", "a kernel must be one grey image [height, width], not [3, 3, 5]"),
    ):
        refused({"kind": "blur", "kernel": str(tmp_path / name)}, f"{name}: {message}")
    assert not (tmp_path / "evidence").exists()


def embedded(**changes: Any) -> dict[str, Any]:
    return {**Embedded(np.arange(12, dtype=np.float32).reshape(3, 4)).describe(), **changes}


def packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw)).decode()


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        (embedded(zlib="!!"), "base64"),
        (embedded(zlib="é"), "ASCII"),
        (embedded(zlib=base64.b64encode(b"no zlib").decode()), "decompressing"),
        (embedded(zlib=None), "not 'NoneType'"),
        (embedded(zlib=packed(bytes(47))), "its data do not fit the shape [3, 4]"),
        (embedded(zlib=packed(bytes(49))), "its data do not fit the shape [3, 4]"),
        (embedded(zlib=base64.b64encode(zlib.compress(bytes(48))[:-2]).decode()), "its data do not fit the shape"),
        (embedded(zlib=packed(bytes(1 << 26))), "its data do not fit the shape [3, 4]"),
        (embedded(shape=[1 << 20, 1 << 20]), "shape [1048576, 1048576] is impossible"),
        (embedded(shape=[1 << 20, 1 << 11], dtype="bool"), "shape [1048576, 2048] is impossible"),
        (embedded(shape=[-3, -4]), "shape [-3, -4] is impossible"),
        (embedded(shape=[float("inf")]), "infinity"),
        (embedded(shape=3), "not iterable"),
        (embedded(shape=["a"]), "invalid literal"),
        (embedded(dtype="float64"), "no 'float64'"),
        (embedded(dtype=["bool"]), "unhashable"),
        ({}, "no 'shape'"),
    ],
)
def test_embedded_arrays(description: dict[str, Any], reason: str) -> None:
    shown = rf"^corruption\.maps: is not an array in plain data \(.*{re.escape(reason)}"
    with pytest.raises(UserError, match=shown) as caught:
        corruption_from({"kind": "mri", "maps": description})
    assert "\n" not in str(caught.value) and "take it from a store's manifest" in str(caught.value)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (7,), (2, 3, 5)])
def test_embedded_arrays_come_back(shape: tuple[int, ...]) -> None:
    for array in (random(*shape) < 0.5, random(*shape).astype(np.float32)):
        kept = Embedded(np.asarray(array))
        read = Embedded.read(kept.describe())
        assert read == kept and hash(read) == hash(kept) and read.array.shape == shape
        with pytest.raises(ValueError, match="read-only"):
            read.array[...] = 0
    assert Embedded(np.zeros(3, bool)) != Embedded(np.zeros(3, np.float32)) != Embedded(np.zeros((3, 1), np.float32))


def test_a_bomb_is_not_unpacked() -> None:
    """64 MiB of zeros behind a description of twelve numbers: no more than these are unpacked."""
    description = embedded(zlib=packed(bytes(1 << 26)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="do not fit the shape"):
        Embedded.read(description)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_numbers_of_a_kernel_are_kept_as_they_are_if_asked(mode: str, tmp_path: Path) -> None:
    """Of a picture they are its grey values, whether it has one channel or three equal ones."""
    pixels = (40 * np.tri(3, 5)).astype(np.uint8)
    PIL.Image.fromarray(pixels).convert(mode).save(tmp_path / "psf.png")
    for normalise, factor in ((False, 1.0), (True, 1 / pixels.sum())):
        kernel = Blur(kernel=str(tmp_path / "psf.png"), normalise=normalise).kernel
        assert isinstance(kernel, Embedded)
        np.testing.assert_allclose(kernel.array, pixels * factor, rtol=1e-6)
