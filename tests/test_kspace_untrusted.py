"""HDF5 and arrays of k-space from somebody else: one line, quickly, and nothing outside the file is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kspace import measured, write_h5
from restill.core.errors import UserError
from restill.io import open_kspace

h5py = pytest.importorskip("h5py")
K = measured(3, 4)


def external(file: Any, folder: Path) -> None:
    write_h5(folder / "secret.h5", kspace=K)
    file["kspace"] = h5py.ExternalLink(str(folder / "secret.h5"), "/kspace")


def soft(file: Any, folder: Path) -> None:
    write_h5(folder / "secret.h5", group=K)
    file["out"] = h5py.ExternalLink(str(folder / "secret.h5"), "/")
    file["kspace"] = h5py.SoftLink("/out/group")


def raw_file(file: Any, folder: Path) -> None:
    (folder / "secret.raw").write_bytes(K.tobytes())
    file.create_dataset("kspace", K.shape, K.dtype, external=[(str(folder / "secret.raw"), 0, K.nbytes)])


def virtual(file: Any, folder: Path) -> None:
    write_h5(folder / "secret.h5", kspace=K)
    layout = h5py.VirtualLayout(K.shape, K.dtype)
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "kspace", K.shape)
    file.create_virtual_dataset("kspace", layout)


HOSTILE: dict[str, tuple[Callable[[Any, Path], Any], str]] = {
    "external link": (external, "kspace is a link to somewhere else"),
    "soft link": (soft, "kspace is a link to somewhere else"),
    "values in another file": (raw_file, "takes its values from other files"),
    "virtual dataset": (virtual, "takes its values from other files"),
    "no dataspace": (lambda f, _: f.create_dataset("kspace", dtype="c8"), "kspace is empty, without a shape"),
    "more than it holds": (
        lambda f, _: f.create_dataset("kspace", (10**7, 8, 512, 512), "c8", chunks=(1, 1, 64, 64)),
        "but the file holds 0 bytes of it",
    ),
    "a huge chunk": (
        lambda f, _: f.create_dataset("kspace", (1, 1, 8, 8), "c8", maxshape=(None,) * 4, chunks=(1, 8, 4096, 2048)),
        "a chunk would take 537 MB",
    ),
    "a group": (lambda f, _: f.create_group("kspace"), "has no 'kspace' but no arrays"),
    "text": (lambda f, _: f.create_dataset("kspace", data="hello"), "must be complex numbers"),
    "integers": (lambda f, _: f.create_dataset("kspace", data=np.ones((1, 1, 8, 8), int)), "must be complex numbers"),
    "pairs of reals": (
        lambda f, _: f.create_dataset("kspace", data=np.ones((1, 1, 8, 8), [("real", "f4"), ("imag", "f4")])),
        "must be complex numbers",
    ),
    "a scalar": (lambda f, _: f.create_dataset("kspace", data=1j), "expected [slices, coils, height, width]"),
    "a mask of text": (lambda f, _: [f.create_dataset(n, data=v) for n, v in (("kspace", K), ("mask", "x"))], "mask"),
    "maps without a shape": (
        lambda f, _: [f.create_dataset("kspace", data=K), f.create_dataset("maps", dtype="c8")],
        "maps is empty",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_line(tmp_path: Path, name: str) -> None:
    make, words = HOSTILE[name]
    path = tmp_path / "k.h5"
    with h5py.File(path, "w") as file:
        make(file, tmp_path)
    with pytest.raises(UserError) as caught:
        list(open_kspace(path))
    text = str(caught.value).replace(str(path), "k.h5")
    assert text.startswith("k.h5") and words in text and "\n" not in text and len(text) <= 300, text


def test_pairs_that_h5py_calls_complex_are_read(tmp_path: Path) -> None:
    """h5py stores complex numbers as pairs called r and i; a dataset that compresses well is no claim."""
    zeros = np.zeros((8, 4, 128, 128), np.complex64)
    zeros[:, :, 64, 64] = 1
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file.create_dataset("kspace", data=zeros, compression="gzip")
        file["elsewhere"] = h5py.ExternalLink("nowhere.h5", "/")  # what is not asked for does not matter
    assert len(list(open_kspace(tmp_path / "k.h5"))) == 8


@pytest.mark.parametrize("form", ["h5", "npy", "npz"])
def test_a_slice_has_a_limit_that_can_be_raised(tmp_path: Path, form: str) -> None:
    path, k = tmp_path / f"k.{form}", np.ones((1, 2, 300, 300), np.complex64)
    if form == "h5":
        write_h5(path, kspace=k)
    elif form == "npy":
        np.save(path, k)
    else:
        np.savez(path, kspace=k)
    with pytest.raises(UserError, match=r"a slice would take 2 MB in memory, more than the limit of 1 MB; raise it"):
        open_kspace(path, limit=1)
    assert len(open_kspace(path, limit=2)) == 1


def test_pipes_are_refused(tmp_path: Path) -> None:
    for name in ("k.h5", "k.npy"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match=name):
            open_kspace(tmp_path / name)
