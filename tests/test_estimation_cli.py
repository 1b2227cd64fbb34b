"""`restill estimate-noise`, and `restill import --sigma-n auto`, as a person runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from restill.acquisition import import_measurements
from restill.acquisition.stated_noise import estimated
from restill.cli import app as cli
from restill.core.errors import UserError
from restill.estimation import NoiseEstimate
from restill.io import array_source, digits
from restill.report.noise_estimate import noise_in_words
from restill.store import open_store

Call = Callable[..., str]
SIGMA = 3.0  # in the digits' units, 0 to 16


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command; it must succeed. Returns what it prints."""

    def run(*words: object) -> str:
        code = cli._run_app([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return " ".join(captured.out.split())

    return run


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command; it must end with exit code 2 and one line, which is returned."""

    def run(*words: object) -> str:
        code = cli._run_app([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 2 and captured.out == "" and captured.err.count("\n") == 1, captured.err
        return captured.err

    return run


def save(path: Path, levels: float | np.ndarray = SIGMA) -> Path:
    """The digits with noise, as a float array of the digits' units."""
    clean = np.stack(list(digits()))[:, 0]
    noise = np.random.default_rng(0).normal(size=clean.shape)
    np.save(path, (clean + np.reshape(levels, (-1, 1, 1)) * noise).astype(np.float32))
    return path


def half_clean(path: Path) -> Path:
    return save(path, np.where(np.arange(1797) % 2, SIGMA, 0.0))


def test_help_has_an_example(call: Call) -> None:
    assert "Example: restill estimate-noise scans/" in call("estimate-noise", "--help")


def test_a_file_and_the_store_of_it(tmp_path: Path, call: Call) -> None:
    scans = save(tmp_path / "scans.npy")
    text = call("estimate-noise", scans, "--out", tmp_path / "noise.json")
    assert "1,797 images of shape [1, 8, 8]" in text and "One level describes all images" in text and "█" in text
    found = json.loads((tmp_path / "noise.json").read_text())
    low, high = found["interval"]
    assert found["sigma_n"] == pytest.approx(SIGMA, rel=0.05) and low <= SIGMA <= high and not found["mixed"]
    assert f"sigma_n {found['sigma_n']:.4g} (95% interval {low:.4g} to {high:.4g}) in the units of the files" in text
    assert len(found["per_sample"]) == 1797 and np.mean(found["per_sample"]) == pytest.approx(SIGMA, rel=0.06)
    call("import", scans, "--sigma-n", SIGMA, "--out", tmp_path / "store")
    scale = open_store(tmp_path / "store").manifest.normalisation.scale
    assert found["normalised"]["sigma_n"] * scale == pytest.approx(found["sigma_n"])
    again = call("estimate-noise", tmp_path / "store", "--out", tmp_path / "again.json")
    assert "The store says 3 (stated)." in again
    assert json.loads((tmp_path / "again.json").read_text())["sigma_n"] == pytest.approx(found["sigma_n"], rel=1e-4)


def test_import_estimates_one_level(tmp_path: Path, call: Call) -> None:
    text = call("import", save(tmp_path / "scans.npy"), "--sigma-n", "auto", "--out", tmp_path / "store")
    store = open_store(tmp_path / "store")
    summary, scale = store.manifest.sigma_n, store.manifest.normalisation.scale
    assert summary.estimated and summary.estimate is not None and not summary.estimate.per_sample
    assert summary.min == summary.max and summary.mean * scale == pytest.approx(SIGMA, rel=0.05)
    low, high = summary.estimate.interval
    assert f"(estimated, 95% interval {low * scale:.4g} to {high * scale:.4g}) in the units of the files" in text
    assert low * scale <= SIGMA <= high * scale and "content of pixels" in summary.estimate.method
    assert (
        summary.estimate.sigma == pytest.approx(summary.mean) and store.corruption.sigma_max == summary.estimate.sigma
    )
    assert "estimated" in call("info", tmp_path / "store")
    assert "(estimated)." in call("estimate-noise", tmp_path / "store")


def test_levels_that_differ_are_not_averaged(tmp_path: Path, call: Call, fails: Call) -> None:
    scans = half_clean(tmp_path / "scans.npy")
    assert "Levels differ between images: 5% lie below" in call("estimate-noise", scans)
    line = fails("import", scans, "--sigma-n", "auto", "--out", tmp_path / "y")
    assert "scans.npy: noise levels differ" in line and "auto-per-sample" in line and not (tmp_path / "y").exists()
    call("import", scans, "--sigma-n", "auto-per-sample", "--out", tmp_path / "store")
    store = open_store(tmp_path / "store")
    levels = store.sigma_n * store.manifest.normalisation.scale
    assert store.manifest.sigma_n.estimated and store.manifest.sigma_n.estimate is not None
    assert store.manifest.sigma_n.estimate.per_sample
    assert levels[::2].median() < 0.25 and levels[1::2].median() == pytest.approx(SIGMA, rel=0.1)


def test_levels_of_a_file_are_read_by_import(tmp_path: Path, call: Call) -> None:
    scans = half_clean(tmp_path / "scans.npy")
    call("estimate-noise", scans, "--out", tmp_path / "levels.npy")
    call("import", scans, "--sigma-n", tmp_path / "levels.npy", "--out", tmp_path / "stated")
    call("import", scans, "--sigma-n", "auto-per-sample", "--out", tmp_path / "auto")
    stated, auto = open_store(tmp_path / "stated"), open_store(tmp_path / "auto")
    assert torch.equal(stated.sigma_n, auto.sigma_n) and not stated.manifest.sigma_n.estimated


def test_a_stated_level_is_not_called_estimated(tmp_path: Path) -> None:
    store = import_measurements(array_source(np.load(save(tmp_path / "x.npy"))), tmp_path / "y", SIGMA)
    assert not store.manifest.sigma_n.estimated and store.manifest.sigma_n.estimate is None


def test_photons(tmp_path: Path, call: Call) -> None:
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (200, 1, 1))
    clean = np.broadcast_to(100 + 80 * np.sin(2 * np.pi * np.arange(32) / 32 + phase), (200, 32, 32))
    np.save(tmp_path / "x.npy", (2 * rng.poisson(clean / 2) + 6 * rng.normal(size=clean.shape)).astype(np.float32))
    words = ["estimate-noise", tmp_path / "x.npy", "--model", "poisson-gaussian", "--out", tmp_path / "n.json"]
    assert "units of the files per count" in call(*words)
    found = json.loads((tmp_path / "n.json").read_text())
    assert found["gain"] == pytest.approx(2, rel=0.1) and found["read"] == pytest.approx(6, rel=0.2)


def test_a_pedestal_must_be_stated(tmp_path: Path, call: Call, fails: Call) -> None:
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (200, 1, 1))
    clean = np.broadcast_to(100 + 80 * np.sin(2 * np.pi * np.arange(32) / 32 + phase), (200, 32, 32))
    np.save(
        tmp_path / "x.npy", (500 + 2 * rng.poisson(clean / 2) + 6 * rng.normal(size=clean.shape)).astype(np.float32)
    )
    words = ["estimate-noise", tmp_path / "x.npy", "--model", "poisson-gaussian"]
    line = fails(*words)
    assert "x.npy" in line and "state --zero" in line and len(line) < 300
    assert "gain * (signal - 500) + read noise^2" in call(*words, "--zero", 500, "--out", tmp_path / "n.json")
    found = json.loads((tmp_path / "n.json").read_text())
    assert found["gain"] == pytest.approx(2, rel=0.1) and found["zero"] == 500
    assert "below --zero 700" in fails(*words, "--zero", 700)
    assert "finite" in fails(*words, "--zero", "nan")
    assert "add --model poisson-gaussian" in fails("estimate-noise", tmp_path / "x.npy", "--zero", 500)


@pytest.mark.parametrize("dtype", ["uint64", "int64", "uint16", "float16"])
def test_an_estimate_of_every_type_of_number(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    images = 1000 + 500 * np.sin(np.arange(16) / 5 + rng.uniform(0, 6, (30, 1, 1))) + 50 * rng.normal(size=(30, 16, 16))
    store = import_measurements(array_source(images.astype(dtype), "x"), tmp_path / "y", "auto")
    estimate = store.manifest.sigma_n.estimate
    assert estimate is not None
    low, high = (end * store.manifest.normalisation.scale for end in estimate.interval)
    assert low < 50 < high < 1.15 * low


def test_a_level_that_is_only_bounded_is_not_imported() -> None:
    levels = torch.full((9,), 0.9, dtype=torch.float64)
    found = NoiseEstimate(0.9, 0.4, 1.0, levels, 0.1, (0.9, 0.9), False, "x")
    assert found.vague and not found._replace(low=0.51).vague
    with pytest.raises(UserError, match=r"scans: sigma_n is only known to lie between 0\.4 and 1, "):
        estimated(found, False, "scans")
    assert estimated(found._replace(low=0.51), False, "scans") == 0.9
    assert any("only the interval is known" in line for line in noise_in_words(found, 1.0))


def test_what_cannot_be_estimated(tmp_path: Path, fails: Call) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "one": (rng.normal(size=(1, 8, 8)), "one.npy: holds one image"),
        "flat": (
            np.ones((9, 8, 8)),
            "every image is constant; there is no noise|99.8% of the values are 1, so the range",
        ),
        "small": (rng.normal(size=(9, 3, 3)), "images of 3x3 are too small; at least 4x4 is needed"),
        "nan": (np.full((9, 8, 8), np.nan), "image 0: holds NaN or infinity"),
    }
    for name, (array, message) in arrays.items():
        np.save(tmp_path / f"{name}.npy", array.astype(np.float32))
        for words in (["estimate-noise"], ["import", "--sigma-n", "auto", "--out", tmp_path / "y"]):
            line = fails(words[0], tmp_path / f"{name}.npy", *words[1:], "--layout", "NHW")
            assert any(words in line for words in message.split("|")) and f"{name}.npy" in line
    assert not (tmp_path / "y").exists()


def test_mistakes_in_options(tmp_path: Path, fails: Call) -> None:
    scans = save(tmp_path / "x.npy")
    assert "--model must be gaussian or poisson-gaussian" in fails("estimate-noise", scans, "--model", "rice")
    assert "must end in .json or .npy" in fails("estimate-noise", scans, "--out", tmp_path / "x.csv")
    photons = ["--model", "poisson-gaussian", "--out", tmp_path / "y.npy"]
    assert "must end in .json for the poisson-gaussian model" in fails("estimate-noise", scans, *photons)
    assert "--layout must be" in fails("estimate-noise", scans, "--layout", "CHW")
    assert "nowhere: no such file" in fails("estimate-noise", "nowhere")
    assert "auto or auto-per-sample" in fails("import", scans, "--sigma-n", "loud", "--out", tmp_path / "y")


def test_clean_images_are_not_imported_as_noisy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"digits: (noise levels differ|sigma_n is estimated as .* includes 0)"):
        import_measurements(digits(), tmp_path / "y", "auto")
    assert not (tmp_path / "y").exists()
