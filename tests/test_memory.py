"""Freed memory stays with a training and is returned by an import, where the C library can be told so.

`bench/step.py` counts the page faults of a training, `bench/memory.py` the memory of an import.
"""

from __future__ import annotations

import ctypes
import platform
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from restill.acquisition import import_measurements
from restill.core.memory import keep_freed_memory
from restill.io import array_source, open_images

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_glibc_accepts_it() -> None:
    assert keep_freed_memory() is True


def test_neither_trimmed_nor_mapped_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[int, int] = {}

    def mallopt(name: int, value: int) -> int:
        told[name] = value
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory() is True
    assert told[M_TRIM_THRESHOLD] >= 2**30 and told[M_MMAP_THRESHOLD] == 32 << 20  # the most that glibc takes


def test_a_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda name, value: 0))
    assert keep_freed_memory() is False


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_freed_memory() is False


def test_large_blocks_are_returned_while_files_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: dict[int, int] = {}

    def mallopt(name: int, value: int) -> int:
        told[name] = value
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    import_measurements(array_source(np.random.default_rng(0).normal(size=(9, 8, 8))), tmp_path / "y", 0.5)
    assert told == {M_MMAP_THRESHOLD: 1 << 20}


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_an_array_of_images_is_read_row_by_row(tmp_path: Path, save: Callable[..., None]) -> None:
    """A pass takes less than a tenth of the memory of the array. (`bench/memory.py` measures whole commands.)"""
    path = tmp_path / f"a.{'npy' if save is np.save else 'npz'}"
    images = np.random.default_rng(0).normal(size=(30_000, 8, 8)).astype(np.float32)
    save(path, images)
    tracemalloc.start()
    try:
        total = sum(float(image.sum()) for image in open_images(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == pytest.approx(images.sum(dtype=np.float64), abs=0.1) and peak < images.nbytes / 10
