"""Files that hold several images, in folders and archives alike, and a format that only these tests know."""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import custom_reader
from kspace import measured
from restill.core.errors import UserError
from restill.core.kinds import kinds
from restill.io import ImageReader, KspaceReader, KspaceSlice, open_images
from restill.io.reader import Reader
from restill.store import open_store

RNG = np.random.default_rng(0)
STACKS = [RNG.normal(100, 20, (n, 1, 6, 9)).astype(np.float32) for n in (3, 1, 2)]
ALL = np.concatenate(STACKS)


def text(stack: np.ndarray[Any, Any]) -> str:
    return "\n\n".join("\n".join(" ".join(map(repr, row.tolist())) for row in image[0]) for image in stack)


def packed(folder: Path) -> list[Path]:
    """A folder, and a zip and a tar of it."""
    with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    with tarfile.open(f"{folder}.tar.xz", "w:xz") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, file.name)
    return [folder, Path(f"{folder}.zip"), Path(f"{folder}.tar.xz")]


@pytest.mark.parametrize("form", ["npy", "npz", "rows"])
def test_files_of_several_images(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, stack in zip("abc", STACKS, strict=True):
        if form == "npy":
            np.save(folder / f"{name}.npy", stack)
        elif form == "npz":
            np.savez(folder / f"{name}.npz", images=stack, labels=np.arange(len(stack)))
        else:
            (folder / f"{name}.rows").write_text(text(stack))
    for path in packed(folder):
        source = open_images(path)
        assert len(source) == 6 and source.shape == (1, 6, 9)
        np.testing.assert_array_equal(np.stack(list(source)), ALL)
        np.testing.assert_array_equal(np.stack(list(source)), ALL)  # and so does a second pass
        places = [where for where, _ in source.passes()]
        assert places[2] == f"{path / f'a.{form}'}: image 2" and places[3] == f"{path / f'b.{form}'}"
        assert source.labels == ((0, 1, 2, 0, 0, 1) if form == "npz" else None)


def test_folders_are_classes_of_all_images_in_their_files(tmp_path: Path) -> None:
    for name, stack in zip("ab", STACKS, strict=False):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", stack)
    source = open_images(tmp_path)
    assert source.classes == ("a", "b") and source.labels == (0, 0, 0, 1)


def test_three_axes_in_a_folder_are_a_stack_if_said_so(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ALL[:, 0])
    with pytest.raises(UserError, match="no clear channel axis; state layout"):
        open_images(tmp_path)
    np.testing.assert_array_equal(np.stack(list(open_images(tmp_path, layout="NHW"))), ALL)


def test_a_format_of_ones_own(tmp_path: Path, call: Callable[..., str]) -> None:
    """Found by its suffix; the same store as from an array."""
    (tmp_path / "scans.rows").write_text(text(ALL))
    np.save(tmp_path / "scans.npy", ALL)
    for name in ("rows", "npy"):
        line = call("import", tmp_path / f"scans.{name}", "--sigma-n", 3, "--out", tmp_path / name)
        assert "6 measurements of shape [1, 6, 9]" in line
    assert open_store(tmp_path / "rows").fingerprint == open_store(tmp_path / "npy").fingerprint
    (tmp_path / "scans.rows").write_text("1 2\n3 4\n\n1 2")
    with pytest.raises(UserError, match=r"scans\.rows: image 1: has changed since"):
        list(open_images(tmp_path / "scans.rows"))


def test_a_format_of_ones_own_on_the_command_line(tmp_path: Path, call: Callable[..., str]) -> None:
    """In a process that does not know it: with `--plugin` the same store as from an array, without it one line."""
    (tmp_path / "scans.rows").write_text(text(ALL))
    np.save(tmp_path / "scans.npy", ALL)
    words = [sys.executable, "-m", "restill", "import", str(tmp_path / "scans.rows"), "--sigma-n", "3", "--out"]
    plugin = ["--plugin", str(custom_reader.__file__)]
    subprocess.run([*words, str(tmp_path / "rows"), *plugin], check=True, capture_output=True)
    call("import", tmp_path / "scans.npy", "--sigma-n", 3, "--out", tmp_path / "npy")
    assert open_store(tmp_path / "rows").fingerprint == open_store(tmp_path / "npy").fingerprint
    refused = subprocess.run([*words, str(tmp_path / "unknown")], capture_output=True, text=True)
    assert refused.returncode == 2 and "scans.rows: is not a folder of images or one of .zip" in refused.stderr
    assert refused.stderr.count("\n") == 1 and not (tmp_path / "unknown").exists()


class PartsInFiles(KspaceReader, kind="test-parts"):
    """K-space of one slice and one coil, real and imaginary part as text below each other."""

    suffixes = (".kparts",)

    def holds(self, path: Path) -> bool:
        return True

    def header(self, path: Path) -> tuple[int, int, int, int]:
        height, width = np.loadtxt(path).shape
        return 1, 1, height // 2, width

    def slices(self, path: Path) -> Iterator[KspaceSlice]:
        real, imaginary = np.split(np.loadtxt(path), 2)
        yield KspaceSlice(str(path), (real + 1j * imaginary)[None].astype(np.complex64), None, None)


def test_a_format_of_kspace_of_ones_own(tmp_path: Path, call: Callable[..., str]) -> None:
    """The same store as from an array, of a folder of such files."""
    kspace = measured(2, 1)
    np.save(tmp_path / "k.npy", kspace)
    (tmp_path / "k").mkdir()
    for i, each in enumerate(kspace):
        np.savetxt(tmp_path / "k" / f"{i}.kparts", np.concatenate([each[0].real, each[0].imag]))
    for name in ("k", "k.npy"):
        assert "2 slices of 32x24, 1 coils" in call("import", tmp_path / name, "--out", tmp_path / f"{name}.store")
    assert open_store(tmp_path / "k.store").fingerprint == open_store(tmp_path / "k.npy.store").fingerprint


def test_a_format_is_one_short_class() -> None:
    source = ast.parse(Path(custom_reader.__file__).read_text())
    (found,) = (node for node in source.body if isinstance(node, ast.ClassDef))
    assert found.end_lineno is not None and found.end_lineno - found.lineno + 1 <= 15


def test_every_format_is_registered() -> None:
    assert {"pictures", "arrays", "complex-arrays", "hdf5", "test-text-images"} <= set(kinds(Reader))
    assert {".png", ".npy", ".rows"} <= set(ImageReader.known_suffixes()) and ".h5" in KspaceReader.known_suffixes()
    assert isinstance(ImageReader.of("A.ROWS"), custom_reader.TextImages) and ImageReader.of("a.h5") is None
