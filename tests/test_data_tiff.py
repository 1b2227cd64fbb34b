"""TIFF files of every flavour hold the numbers that tifffile finds in them, or are refused by name."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from restill.core.errors import UserError
from restill.io import open_images

tifffile = pytest.importorskip("tifffile")
RNG = np.random.default_rng(0)


def numbers(dtype: str, shape: tuple[int, ...] = (6, 9)) -> NDArray[Any]:
    """Random numbers over most of the type's range, so that wrapping, rounding and lost bytes show."""
    if np.dtype(dtype).kind == "f":
        return RNG.normal(1000, 300, shape).astype(dtype)
    most = np.iinfo(dtype)
    return RNG.integers(max(most.min, -(2**52)), min(most.max, 2**52), shape, dtype=np.int64).astype(dtype)


def read(path: Path) -> NDArray[Any]:
    source = open_images(path)
    found = np.stack(list(source))
    assert found.shape == (len(source), *source.shape)
    return found


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(open_images(path))
    text = str(caught.value)
    assert "\n" not in text and path.name in text and len(text) < 300 + len(str(path.parent))
    return text


DTYPES = [
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
]  # fmt: skip
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "white is 0": {"photometric": "miniswhite"},
    "big-endian": {"byteorder": ">"},
    "tiles": {"tile": (16, 16)},
    "strips": {"rowsperstrip": 2},
    "deflate": {"compression": "zlib", "predictor": False},
    "BigTIFF": {"bigtiff": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_grey_numbers_are_those_of_the_file(tmp_path: Path, dtype: str, layout: str) -> None:
    image = numbers(dtype, (20, 17))
    tifffile.imwrite(tmp_path / "a.tif", image, **{"photometric": "minisblack", **LAYOUTS[layout]})
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), image[None, None].astype(np.float64))
    assert open_images(tmp_path).value_range == ((0, 255) if dtype == "uint8" else None)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_channels_are_those_of_the_file(tmp_path: Path, dtype: str, channels: int, planar: str) -> None:
    image = numbers(dtype, (channels, 6, 9))
    stored = image if planar == "separate" else np.moveaxis(image, 0, -1)
    photometric = "rgb" if channels in (3, 4) else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, planarconfig=planar)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), image[None])


@pytest.mark.parametrize("extra", ["unspecified", "assocalpha", "unassalpha"])
def test_colours_are_not_divided_by_alpha(tmp_path: Path, extra: str) -> None:
    image = numbers("uint8", (6, 9, 4))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extrasamples=[extra])
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], np.moveaxis(image, -1, 0))


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "TCYX", "CYX", "ZYXS"])
def test_pages_are_images_or_channels_as_the_file_says(tmp_path: Path, axes: str) -> None:
    shape = {"Z": 4, "T": 4, "C": 2, "Y": 6, "X": 9, "S": 3}
    stack = numbers("uint8", tuple(shape[axis] for axis in axes))
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": axes})
    expected = stack[:, None] if axes in ("ZYX", "TYX") else stack[None] if axes == "CYX" else stack
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), np.moveaxis(stack, -1, 1) if "S" in axes else expected)


def test_a_folder_of_stacks_holds_all_their_pages(tmp_path: Path) -> None:
    stack = numbers("uint16", (5, 6, 9))
    tifffile.imwrite(tmp_path / "x10.tif", stack[3:], photometric="minisblack")
    tifffile.imwrite(tmp_path / "x9.tif", stack[:3], photometric="minisblack")
    source = open_images(tmp_path)
    assert source.files == (("x9.tif", 3), ("x10.tif", 2)) and source.value_range is None
    np.testing.assert_array_equal(read(tmp_path)[:, 0], stack)


@pytest.mark.parametrize("kind", ["1-bit", "12-bit"])
def test_few_bits(tmp_path: Path, kind: str) -> None:
    image = numbers("uint8") > 90
    if kind == "1-bit":
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
        np.testing.assert_array_equal(read(tmp_path / "a.tif")[0, 0], image * 255)
        return
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", image.astype(np.uint16) * 4095, bitspersample=12)
    assert read(tmp_path / "a.tif").max() == 4095


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", None])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I;16", "F", "1"])
def test_what_other_programs_compress(tmp_path: Path, mode: str, compression: str | None) -> None:
    """Flavours that Pillow writes, and reads again without loss."""
    shape = (6, 9) if mode in ("L", "I;16", "F", "1") else (6, 9, len(mode))
    image = numbers({"I;16": "uint16", "F": "float32"}.get(mode, "uint8"), shape)
    picture = Image.fromarray(image) if mode != "1" else Image.fromarray(image > 90)
    picture.save(tmp_path / "a.tif", compression=compression)
    expected = (image > 90) * 255 if mode == "1" else image
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], expected.reshape(6, 9, -1).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "1"])
def test_white_as_0_is_the_number_of_the_file_also_where_pillow_decompresses(tmp_path: Path, mode: str) -> None:
    pixels = numbers("uint8") if mode == "L" else (numbers("uint8") > 90) * np.uint8(255)
    picture = Image.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as found:
        shown = np.asarray(found.convert("L"))
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0, 0], 255 - shown)


def write(path: Path, what: str) -> None:
    image = numbers("uint8", (8, 8))
    if what == "palette":
        Image.fromarray(image).convert("P").save(path)
    elif what in ("CMYK", "LAB", "YCbCr"):
        Image.new(what, (8, 8)).save(path)
    elif what == "sizes":
        with tifffile.TiffWriter(path) as file:
            file.write(image, photometric="minisblack")
            file.write(image[:4], photometric="minisblack")
    elif what == "complex":
        tifffile.imwrite(path, image.astype(np.complex64), photometric="minisblack")
    elif what == "volume":
        tifffile.imwrite(path, numbers("uint8", (16, 16, 16)), volumetric=True, photometric="minisblack")
    elif what == "one page for all":
        tifffile.imwrite(path, numbers("uint8", (5, 8, 8)), photometric="minisblack", truncate=True)
    elif what == "cut off":
        tifffile.imwrite(path, numbers("uint8", (64, 64)), photometric="minisblack")
        path.write_bytes(path.read_bytes()[:-1000])
    elif what == "turned and compressed":
        Image.fromarray(image).save(path, compression="tiff_lzw", tiffinfo={274: 6})
    elif what == "text":
        path.write_text("II*\0 but no TIFF")


WRONG = {
    "palette": "palette", "CMYK": "CMYK", "LAB": "CIELAB", "YCbCr": "YCbCr", "sizes": "pages that differ",
    "complex": "complex64", "volume": "has axes", "one page for all": "keeps 5 images in", "cut off": "cannot be read",
    "turned and compressed": "does not read rightly", "text": "cannot be read",
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_read_rightly_is_refused(tmp_path: Path, what: str) -> None:
    write(tmp_path / "a.tif", what)
    assert WRONG[what] in message(tmp_path / "a.tif")


def test_a_size_that_cannot_be_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbers("uint8", (64, 64)), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["ImageWidth"].overwrite(2**31)
        file.pages[0].tags["ImageLength"].overwrite(2**31)
    assert "would take" in message(tmp_path / "a.tif") or "cannot be read" in message(tmp_path / "a.tif")


def test_without_tifffile_only_what_pillow_reads_rightly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"u": numbers("uint32"), "two": numbers("uint8", (6, 9, 2)), "f": numbers("float64")}
    for name, image in wrong.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric="minisblack")
    image = numbers("uint8")
    Image.fromarray(image).save(tmp_path / "right.tif")
    tifffile.imwrite(tmp_path / "white.tif", image, photometric="miniswhite")
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tifffile":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in ("right", "white"):
        np.testing.assert_array_equal(read(tmp_path / f"{name}.tif")[0, 0], image)
    for name, image in wrong.items():
        try:
            found = read(tmp_path / f"{name}.tif")
        except UserError as error:
            assert "restill[formats]" in str(error) or "cannot be read" in str(error)
        else:
            np.testing.assert_array_equal(found[0], image.reshape(6, 9, -1).transpose(2, 0, 1))


def test_an_orientation_tag_is_said_and_not_applied(tmp_path: Path) -> None:
    image = numbers("uint8")
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", extratags=[(274, 3, 1, 6, True)])
    exif = Image.Exif()
    exif[274] = 6
    for suffix in ("png", "webp"):
        Image.fromarray(np.stack([image] * 3, -1)).save(tmp_path / f"a.{suffix}", exif=exif, lossless=True)
    for suffix in ("tif", "png", "webp"):
        with pytest.warns(UserWarning, match=rf"a\.{suffix}: has an orientation tag"):
            source = open_images(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal(next(iter(source))[0], image)
