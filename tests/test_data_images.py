"""Picture files: what is read is what was written, and every bad file is named."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from restill.core.errors import UserError
from restill.io import ImageSource, open_images

RNG = np.random.default_rng(0)


def random_image(channels: int, height: int = 6, width: int = 9, dtype: str = "uint8") -> NDArray[np.generic]:
    high = np.iinfo(dtype).max
    shape = (height, width) if channels == 1 else (height, width, channels)
    return RNG.integers(0, high, shape, dtype=dtype, endpoint=True)


def save(path: Path, image: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def stacked(source: ImageSource) -> NDArray[np.float32]:
    return np.stack(list(source))


def encoded(image: NDArray[np.generic], format: str = "png") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format)
    return stream.getvalue()


def message(path: Path, **options: int) -> str:
    """The one line of the UserError that opening and reading `path` raises."""
    with pytest.raises(UserError) as caught:
        list(open_images(path, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pixels_are_those_of_the_file(tmp_path: Path, channels: int, suffix: str) -> None:
    image = random_image(channels)
    save(tmp_path / f"a.{suffix}", image)
    source = open_images(tmp_path)
    assert source.shape == (channels, 6, 9) and source.value_range == (0, 255) and len(source) == 1
    assert source.name == tmp_path.name and source.labels is None and source.classes is None
    np.testing.assert_array_equal(stacked(source)[0], image.reshape(6, 9, channels).transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_every_bit(tmp_path: Path, suffix: str) -> None:
    image = random_image(1, dtype="uint16")
    save(tmp_path / f"a.{suffix}", image)
    source = open_images(tmp_path)
    assert source.value_range is None
    np.testing.assert_array_equal(stacked(source)[0, 0], image)


def test_palettes_become_rgb_and_bits_become_bytes(tmp_path: Path) -> None:
    Image.fromarray(random_image(3)).quantize(8).save(tmp_path / "a.png")
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(stacked(open_images(tmp_path))[0], expected)
    (tmp_path / "bits").mkdir()
    bits = random_image(1) > 127
    Image.fromarray(bits).save(tmp_path / "bits" / "a.png")
    np.testing.assert_array_equal(stacked(open_images(tmp_path / "bits"))[0, 0], bits * 255)


def test_folder_zip_and_tars_hold_the_same_images(tmp_path: Path) -> None:
    images = {f"sub/{name}.png": random_image(3) for name in "bca"}
    for name, image in images.items():
        save(tmp_path / "folder" / name, image)
    (tmp_path / "folder" / "notes.txt").write_text("not an image")
    (tmp_path / "folder" / ".hidden.png").write_text("not an image")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, image in images.items():
            archive.writestr(name, encoded(image))
    expected = stacked(open_images(tmp_path / "folder"))
    np.testing.assert_array_equal(expected, np.stack([images[n] for n in sorted(images)]).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(stacked(open_images(tmp_path / "x.zip")), expected)
    for mode, name in {"w": "x.tar", "w:xz": "x.tar.xz", "w:gz": "x.tar.gz"}.items():
        with tarfile.open(tmp_path / name, mode) as archive:
            for entry in sorted(images):
                archive.add(tmp_path / "folder" / entry, entry)
        source = open_images(tmp_path / name)
        np.testing.assert_array_equal(stacked(source), expected)
        np.testing.assert_array_equal(stacked(source), expected)  # and so does a second pass


def test_classes_are_folders_side_by_side(tmp_path: Path) -> None:
    for name in ("train/dog/0.png", "train/cat/0.png", "train/cat/1.png"):
        save(tmp_path / name, random_image(1))
    source = open_images(tmp_path)
    assert source.classes == ("cat", "dog") and source.labels == (0, 0, 1)
    assert open_images(tmp_path / "train" / "cat").labels is None
    save(tmp_path / "train" / "cat" / "deeper" / "0.png", random_image(1))
    assert open_images(tmp_path).labels is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_resize_crops_the_centre_and_averages(tmp_path: Path, dtype: str) -> None:
    image = np.zeros((8, 16), dtype)
    image[:, 4:8], image[:, 8:12] = 10, 200
    image[:, :4] = image[:, 12:] = 99  # outside the centred square
    save(tmp_path / "a.png", image)
    save(tmp_path / "b.png", image[:, 4:12])
    source = open_images(tmp_path, resize=2)
    assert source.shape == (1, 2, 2)
    first, second = stacked(source)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first[0, :, 0] - 10).max() < 40 and np.abs(first[0, :, 1] - 200).max() < 40


def test_resize_to_the_size_it_has_changes_nothing(tmp_path: Path) -> None:
    image = random_image(3, 8, 8)
    save(tmp_path / "a.png", image)
    np.testing.assert_array_equal(stacked(open_images(tmp_path, resize=8))[0], image.transpose(2, 0, 1))


def test_the_first_file_of_another_size_is_named_before_work_begins(tmp_path: Path) -> None:
    for name in "abd":
        save(tmp_path / f"{name}.png", random_image(1, 8, 8))
    save(tmp_path / "c.png", random_image(1, 8, 7))
    with pytest.raises(UserError) as caught:
        open_images(tmp_path)
    text = str(caught.value)
    assert "c.png" in text and "8x7" in text and "8x8" in text and "--resize" in text and "d.png" not in text
    found = stacked(open_images(tmp_path, resize=8 - 1))
    assert found.shape == (4, 1, 7, 7)
    with Image.open(tmp_path / "c.png") as picture:
        np.testing.assert_array_equal(found[2, 0], np.asarray(picture)[:7])  # cropped, and nothing is resampled
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(found[0, 0], np.asarray(picture.resize((7, 7), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize("other", [random_image(3, 8, 8), random_image(1, 8, 8, dtype="uint16")])
def test_mixed_channels_and_depths_are_named_even_with_resize(tmp_path: Path, other: NDArray[np.generic]) -> None:
    save(tmp_path / "a.png", random_image(1, 8, 8))
    save(tmp_path / "b.png", other)
    assert "b.png" in message(tmp_path) and "b.png" in message(tmp_path, resize=4)


def truncated_jpeg(path: Path) -> None:
    data = encoded(random_image(3, 64, 64), "jpeg")
    path.with_suffix(".jpg").write_bytes(data[: len(data) // 2])


def animated(format: str) -> object:
    def write(path: Path) -> None:
        frames = [Image.fromarray(random_image(3)) for _ in range(3)]
        frames[0].save(path.with_suffix(f".{format}"), save_all=True, append_images=frames[1:])

    return write


def deep_png(path: Path, kind: int, pixels: NDArray[np.integer], filters: tuple[int, ...] = (0,)) -> None:  # type: ignore[type-arg]
    """A PNG of 16 bits by its specification; rows are filtered in turn by `filters`, 0 to 4."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = pixels.shape
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, -1).astype(int)
    data, before, step = b"", np.zeros_like(rows[0]), 2 * channels
    for k, row in enumerate(rows):
        left, corner = (np.concatenate([np.zeros(step, int), some[:-step]]) for some in (row, before))
        guess = left + before - corner
        near = np.argmin([abs(guess - left), abs(guess - before), abs(guess - corner)], 0)
        paeth = np.choose(near, [left, before, corner])
        filter = filters[k % len(filters)]
        predicted = (0 * row, left, before, (left + before) // 2, paeth)[filter]
        data, before = data + bytes([filter]) + ((row - predicted) % 256).astype(np.uint8).tobytes(), row
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    path.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize("kind", [0, 2, 6])
def test_png_of_16_bits_keeps_every_bit(tmp_path: Path, kind: int) -> None:
    image = RNG.integers(0, 65536, (7, 9, {0: 1, 2: 3, 6: 4}[kind]))
    deep_png(tmp_path / "a", kind, image, (0, 1, 2, 3, 4))
    source = open_images(tmp_path)
    assert source.value_range is None
    np.testing.assert_array_equal(stacked(source)[0], image.transpose(2, 0, 1))


def decompression_bomb(path: Path) -> None:
    deep_png(path, 2, RNG.integers(0, 65536, (4, 4, 3)))
    file = path.with_suffix(".png")
    data = bytearray(file.read_bytes())
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[24:26] = bytes([8, 2])
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    file.write_bytes(data)


BAD_FILES = {
    "truncated": (truncated_jpeg, "cannot be read"),
    "no picture": (lambda path: path.with_suffix(".png").write_text("hello"), "cannot be read"),
    "empty": (lambda path: path.with_suffix(".png").write_bytes(b""), "cannot be read"),
    "animated gif": (animated("gif"), "several frames"),
    "animated png": (animated("png"), "several frames"),
    "animated webp": (animated("webp"), "several frames"),
    "16-bit grey with alpha": (lambda path: deep_png(path, 4, RNG.integers(0, 65536, (4, 4, 2))), "16 bits"),
    "bomb": (
        decompression_bomb,
        "would take 10,800 MB in memory, more than the limit of 256 MB",
    ),
    "cmyk": (lambda path: Image.new("CMYK", (4, 4)).save(path.with_suffix(".jpg")), "CMYK"),
    "nan": (lambda path: Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(path.with_suffix(".tif")), "NaN"),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_bad_file_is_named(tmp_path: Path, bad: str) -> None:
    write, word = BAD_FILES[bad]
    write(tmp_path / "culprit")  # type: ignore[operator]
    text = message(tmp_path)
    assert "culprit" in text and word in text


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with tarfile.open(tmp_path / "empty.tar.xz", "w:xz"):
        pass
    for name, word in {
        "missing": "no such file", "folder": "no images", "empty.zip": "no images", "empty.tar.xz": "no images",
    }.items():  # fmt: skip
        text = message(tmp_path / name)
        assert name in text and word in text


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.xz", "x.npy", "x.npz", "x.h5"])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else entirely" * 100)
    assert name in message(tmp_path / name)


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar.xz", "w:xz") as archive:
        for i in range(3):
            archive.add(save(tmp_path / f"{i}.png", random_image(3, 64, 64)), f"{i}.png")
    data = (tmp_path / "whole.tar.xz").read_bytes()
    (tmp_path / "cut.tar.xz").write_bytes(data[: len(data) // 2])
    assert "cut.tar.xz" in message(tmp_path / "cut.tar.xz")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every file")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", random_image(1)).chmod(0)
    assert "a.png" in message(tmp_path)


def test_files_that_change_after_opening_are_noticed(tmp_path: Path) -> None:
    save(tmp_path / "a.png", random_image(1))
    save(tmp_path / "b.png", random_image(1))
    source = open_images(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(UserError, match="1 images now"):
        list(source)
    save(tmp_path / "b.png", random_image(1, 3, 3))
    with pytest.raises(UserError, match=r"b\.png: has changed"):
        list(source)


def test_resize_must_be_positive(tmp_path: Path) -> None:
    assert "--resize" in message(tmp_path, resize=0)


def test_cifar10(shared_data: Path) -> None:
    path = shared_data / "cifar10-test.tar.xz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in shared/data")
    source = open_images(path)
    assert (source.shape, len(source), source.value_range) == ((3, 32, 32), 10_000, (0, 255))
    assert source.classes is not None and source.classes[0] == "airplane" and source.labels is not None
    assert [source.labels.count(k) for k in range(10)] == [1000] * 10
    total = np.zeros(3)
    for image in source:
        total += image.mean((1, 2))
    # the published means of the 10,000 test images, whatever the JPEG compression did
    np.testing.assert_allclose(total / 10_000 / 255, [0.494, 0.485, 0.450], atol=0.005)
