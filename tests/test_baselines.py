"""L1-wavelet reconstructions and their diffusion model, as a run makes them beside its student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from restill import run as run_all
from restill.checkpoint import load_network
from restill.checks import data_consistency
from restill.cli.app import _run_app as main
from restill.core.errors import UserError
from restill.corruption import Mri
from restill.diffusion import Prior
from restill.metrics import load_results
from restill.restoration import CompressedSensing
from restill.runs import Run, baselines, open_run, prepare_store, working_on
from restill.runs.recipe_files import recipe_from
from restill.store import open_store
from restill.store.statistics import estimate_power
from tiny import images, settings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with both baselines, by the command line."""
    folder = tmp_path_factory.mktemp("baselines")
    np.save(folder / "magnitudes.npy", images(40, (1, 16, 16))[:, 0])
    words = settings(
        f"data.source={folder / 'magnitudes.npy'}", "data.resize=16", "corruption.acs=2",
        "baselines.iterations=15", "baselines.l1_edm=true",
        "execution.precision=fp32",
    )  # fmt: skip
    assert main(["run", "brain-mri-tiny", "--out", str(folder / "run"), *words]) == 0
    return folder / "run"


def values(path: Path, metric: str, features: str) -> dict[str, float]:
    results = load_results(path / "metrics.json").results
    return {r.subject: r.value for r in results if (r.metric, r.features, r.reference) == (metric, features, "clean")}


def test_every_subject_is_measured(made: Path) -> None:
    found = values(made, "frechet", "pixels")
    assert set(found) == {"measurements", "l1-wavelet", "l1-edm", "teacher-full", "student"}
    pairs = values(made, "psnr", "pairs")
    assert pairs["l1-wavelet"] > pairs["measurements"] + 0.5
    assert found["l1-wavelet"] < found["measurements"]
    page = (made / "report.html").read_text()
    assert "l1-wavelet" in page and "l1-edm" in page and (made / "samples" / "l1-edm.png").exists()


def test_networks_keep_the_spectrum_of_their_measurements(made: Path) -> None:
    """Teacher and student have that of the store, also when loaded; L1 + EDM is an ordinary diffusion model."""
    power = estimate_power(open_store(made / "store"))
    assert power is not None and power[0] > 10 * power[-1] > 0
    for stage in ("teacher", "student"):
        denoiser, config = load_network(made / stage)
        assert config.power == pytest.approx(power)
        torch.testing.assert_close(denoiser.prior.variance, Prior.stationary(power, 16, 16).variance.float())
        assert config.sigma_data == pytest.approx(float(denoiser.prior.variance.mean().sqrt()), rel=1e-5)
    assert load_network(made / "baseline")[1].power is None


def test_data_consistency_is_that_of_the_reconstructions(made: Path) -> None:
    """Recomputed with numpy, slice by slice; all 40 slices."""
    store, reconstructed = open_store(made / "store"), open_store(made / "baseline" / "store")
    checks = {c.subject: c for c in load_results(made / "metrics.json").checks if c.name == "data-consistency"}
    assert set(checks) == {"measurements", "l1-wavelet", "teacher-full"}
    batch, found = store.batch(torch.arange(40)), []
    predicted = batch.operator.apply(reconstructed.batch(torch.arange(40)).y)
    for k in range(40):
        difference = (predicted[k] - batch.y[k]).numpy().astype(np.float64)
        found.append(np.sqrt((difference**2).sum() / (batch.y[k].numpy().astype(np.float64) ** 2).sum()))
    assert checks["l1-wavelet"].value == pytest.approx(np.mean(found), rel=1e-3)
    assert checks["l1-wavelet"].value < checks["measurements"].value < 1
    assert f"{checks['l1-wavelet'].value:.2%}" in checks["l1-wavelet"].sentence


def test_data_consistency_counts_noise() -> None:
    """n = 200 slices: the true image differs from noisy k-space by the noise, within 5 standard errors."""
    corruption = Mri(acs=2, coils=3, sigma_n=0.05)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, 16, 16, generator=generator, dtype=torch.float64)
    operator = corruption.draw(200, (2, 16, 16), generator)
    y = corruption.corrupt(x, operator, generator)
    residual, noise = data_consistency(x, y, operator)
    ratio = residual / noise
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / 200**0.5 + 1e-3
    with pytest.raises(UserError, match="measurement 3 is zero everywhere"):
        data_consistency(x, torch.where(torch.arange(200)[:, None, None, None] == 3, 0.0, y), operator)


def test_reconstructions_are_those_of_the_measurements(made: Path) -> None:
    store, reconstructed = open_store(made / "store"), open_store(made / "baseline" / "store")
    choice = json.loads((made / "baseline" / "l1-wavelet.json").read_text())
    batch = store.batch(torch.arange(5))
    expected = CompressedSensing(choice["weight"], 15, choice["wavelet"])(batch.y, batch.operator)
    torch.testing.assert_close(reconstructed.batch(torch.arange(5)).y, expected, rtol=1e-3, atol=1e-3)
    assert len(reconstructed) == len(store) and reconstructed.is_complex
    assert reconstructed.manifest.normalisation == store.manifest.normalisation
    errors = choice["errors"]
    assert min(errors[choice["wavelet"]]) == min(min(tried) for tried in errors.values())
    assert choice["candidates"][np.argmin(errors[choice["wavelet"]])] == choice["weight"]
    how = {r.sampler for r in load_results(made / "metrics.json").results if r.subject == "l1-wavelet"} - {None}
    assert all(f"weight {choice['weight']:.2g}, chosen by held-out lines" in words for words in how) and how


def test_a_finished_run_makes_nothing_anew(made: Path) -> None:
    weights = made / "baseline" / "model.safetensors"
    before = weights.stat().st_mtime_ns, (made / "baseline" / "store" / "manifest.json").stat().st_mtime_ns
    run_all(made / "recipe.yaml", made)
    assert (weights.stat().st_mtime_ns, (made / "baseline" / "store" / "manifest.json").stat().st_mtime_ns) == before


def test_the_diffusion_model_draws(made: Path, tmp_path: Path) -> None:
    assert main(["sample", str(made), "-n", "3", "--sampler", "l1-edm", "--out", str(tmp_path / "drawn")]) == 0
    drawn = np.load(tmp_path / "drawn" / "000002.npy")
    assert drawn.shape == (16, 16) and drawn.dtype == np.complex64 and np.isfinite(drawn).all()


def test_no_clean_image_is_opened(made: Path, tmp_path: Path) -> None:
    """Without the reference, and interrupted before it: the same reconstructions and the same network, bit for bit."""
    again = tmp_path / "again"
    shutil.copytree(made, again, symlinks=True)
    shutil.rmtree(again / "baseline")
    shutil.rmtree(again / "reference")
    with working_on(again, open_run(again).recipe) as current:
        baselines(current)
    for name in ("store/shard-00000.safetensors", "model.safetensors"):
        old, new = (load_file(folder / "baseline" / name) for folder in (made, again))
        assert old.keys() == new.keys() and all(torch.equal(old[key], new[key]) for key in old)


def test_stated_weight_is_used(made: Path, tmp_path: Path) -> None:
    recipe = open_run(made).recipe
    stated = recipe.baselines.model_copy(update={"weight": 1e-2, "wavelet": "haar", "l1_edm": False})
    with working_on(tmp_path / "run", recipe.model_copy(update={"baselines": stated})) as current:
        prepare_store(current)
        baselines(current)
        choice = json.loads((current.stage("baseline") / "l1-wavelet.json").read_text())
        assert (choice["weight"], choice["wavelet"], choice["errors"]) == (1e-2, "haar", None)
        assert not Run(current.path, recipe).trained("baseline")


def test_only_k_space_has_such_baselines(tmp_path: Path) -> None:
    recipe = recipe_from({"name": "x", "data": {"source": "digits"}, "baselines": {"l1_wavelet": True}}, "x")
    with working_on(tmp_path / "run", recipe) as current:
        prepare_store(current)
        with pytest.raises(UserError, match="needs undersampled k-space"):
            baselines(current)
