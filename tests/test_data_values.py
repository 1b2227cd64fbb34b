"""Values arrive in a store as they are: small signals on large offsets, whatever marks missing values is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from restill.acquisition.sentinels import check_sentinels
from restill.core.errors import UserError
from restill.io import array_source
from restill.store import open_store

RNG = np.random.default_rng(0)
Cli = Callable[..., str]


def physical(store: Path) -> NDArray[np.float64]:
    opened = open_store(store)
    y = opened.stored(torch.arange(len(opened))).double()
    units = opened.manifest.normalisation
    return (y * units.scale + units.offset).numpy()  # type: ignore[no-any-return]


def scans(dtype: str, offset: float = 0, n: int = 30) -> NDArray[Any]:
    """A small signal with noise on an offset."""
    ramp = np.linspace(40, 200, 8 * 9).reshape(8, 9)
    signal = ramp + RNG.normal(0, 12, (n, 8, 9)) + RNG.normal(0, 20, (n, 1, 1))
    return (offset + signal.round()).astype(dtype)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(
    ("dtype", "offset"),
    [("uint32", 3e9), ("int32", -2e9), ("int64", 1e15), ("uint64", 4e15), ("float64", 1e12), ("float64", -1e9)],
)
def test_a_small_signal_on_a_large_offset_loses_nothing(
    call: Cli, tmp_path: Path, dtype: str, offset: float, masks: bool
) -> None:
    values = scans(dtype, offset)
    np.save(tmp_path / "a.npy", values)
    hidden = np.zeros((8, 9), bool)
    hidden[2, 3] = masks
    np.save(tmp_path / "m.npy", ~hidden)
    words = ["--masks", tmp_path / "m.npy"] if masks else []
    call("import", tmp_path / "a.npy", "--sigma-n", 12, *words, "--out", tmp_path / "y")
    error = np.abs(physical(tmp_path / "y")[:, 0] - values.astype(np.float64))[:, ~hidden]
    assert error.max() < 1e-3 + 1e-16 * abs(offset)


@pytest.mark.parametrize("dtype", ["uint64", "float64", "uint32"])
def test_noise_is_estimated_on_a_large_offset_as_without(call: Cli, tmp_path: Path, dtype: str) -> None:
    values = scans("float64", n=200)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", (values + 2e9).astype(dtype))
    levels = []
    for name in "ab":
        call("import", tmp_path / f"{name}.npy", "--sigma-n", "auto", "--out", tmp_path / name)
        store = open_store(tmp_path / name)
        levels.append(store.manifest.sigma_n.mean * store.manifest.normalisation.scale)
    assert levels[0] == pytest.approx(12, rel=0.25) and levels[1] == pytest.approx(levels[0], rel=0.02)


def test_integers_that_float64_rounds_are_refused() -> None:
    values = scans("int64", 2**53 - 1e4)
    assert len(list(array_source(values))) == 30
    values[3, 0, 0] = 2**53 + 1
    with pytest.raises(UserError, match=r"scans: image 3: holds integers beyond 2\^53"):
        list(array_source(values, "scans"))
    with pytest.raises(UserError, match="beyond"):
        list(array_source(-values, "scans"))


def test_resizing_keeps_a_small_signal(tmp_path: Path) -> None:
    values = scans("float64", 1e12)
    near, far = (np.stack(list(array_source(some, resize=4))) for some in (values - 1e12, values))
    np.testing.assert_allclose(far - 1e12, near, rtol=0, atol=2e-3)


MARKS = [-99999, -9999, -1, 65535, 1e20, -3.4e38]


@pytest.mark.parametrize("share", [0.1, 0.001])
@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_of_missing_values_is_named_before_anything_is_written(
    call: Cli, fails: Cli, tmp_path: Path, mark: float, share: float
) -> None:
    values = (1000 + 100 * RNG.random((100, 16, 16)) + RNG.normal(0, 12, (100, 16, 16))).astype(np.float32)
    values[RNG.random(values.shape) < share] = mark
    np.save(tmp_path / "a.npy", values)
    words = [tmp_path / "a.npy", "--sigma-n", 12, "--out", tmp_path / "y"]
    text = fails("import", *words)
    assert f"are exactly {np.float32(mark):.10g}, far from all others" in text and "--masks" in text
    assert f"{(values == np.float32(mark)).mean():.1%} of the values" in text
    text = fails("corrupt", *words)
    assert f"are exactly {np.float32(mark):.10g}" in text and "--range" in text
    call("corrupt", *words[:1], "--sigma-n", 0.1, "--range", "900,1200", "--out", tmp_path / "z")


def test_marks_at_both_ends_and_several_of_them() -> None:
    values = RNG.normal(0, 1, 1000)
    for marks in ([-99999, 65535], [-9999, -8888], [1e6, 2e6, 3e6]):
        marked = np.concatenate([values, np.repeat(np.array(marks, float), 3)])
        with pytest.raises(UserError, match="are exactly"):
            check_sentinels(marked, "x", "no")


ORDINARY = {
    "noise": RNG.normal(0, 1, 10_000),
    "saturated": RNG.normal(0, 1, 10_000).clip(-1, 2),
    "photons": RNG.poisson(0.3, 10_000) + RNG.poisson(3, 10_000),
    "dark border": np.concatenate([np.zeros(5000), RNG.gamma(2, 3, 5000)]),
    "one hot pixel": np.append(RNG.normal(0, 1, 10_000), 1e6),
    "two values": RNG.integers(0, 2, 10_000) * 255,
    "stars": np.exp(RNG.normal(0, 2, 10_000)).clip(0, 300).round(2),
    "12 bits": RNG.normal(2000, 900, 10_000).round().clip(0, 4095),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_values_are_no_marks(name: str) -> None:
    check_sentinels(ORDINARY[name], "x", "no")


def test_nonsense_is_refused(fails: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", scans("float32"))
    for source in (tmp_path / "a.npy", "digits", "phantoms"):
        text = fails("corrupt", source, "--sigma-n", 0.1, "--resize", 0, "--out", tmp_path / "y")
        assert "--resize must be at least 1" in text
    text = fails("corrupt", "digits", "--corruption", "{kind: noise, sigma_n: 1.0e+30}", "--out", tmp_path / "y")
    assert "corruption.sigma_n 1e+30 hides every image" in text
    for words in (["corrupt", "digits", "--sigma-n", 0.1], ["sample", tmp_path]):
        assert "--seed" in fails(*words, "--seed", -1, "--out", tmp_path / "y")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize(
    "name", ["x.png", "x.npy", "x.npz", "x.tif", "x.zip", "x.tar", "folder/x.png", "l.txt", "m.npy"]
)
def test_pipes_are_refused(fails: Cli, tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", scans("float32"))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    source = tmp_path / ("a.npy" if name in ("l.txt", "m.npy") else name.split("/")[0])
    words = ["--masks", tmp_path / name] if name == "m.npy" else []
    level = tmp_path / name if name == "l.txt" else 1
    text = fails("import", source, "--sigma-n", level, *words, "--out", tmp_path / "y")
    assert "pipe" in text or "must be a number" in text
