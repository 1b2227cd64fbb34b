"""Freed memory stays with the process where the C library can be told so. (`bench/step.py` counts the page faults.)"""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace

import pytest

from restill.core.memory import keep_freed_memory

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
