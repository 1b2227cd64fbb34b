"""Evaluation of a whole run: streamed, shared between processes, with its protocol and its checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from restill.checks.audit import Audit
from restill.cli.app import _run_app
from restill.corruption import AdditiveNoise
from restill.diffusion import GaussianDenoiser
from restill.io import digits
from restill.metrics import Result, load_results, psnr
from restill.restoration import posterior_mean
from restill.runs import evaluate, run, working_on
from restill.store import Batch
from tiny import tiny_recipe

RECIPE = tiny_recipe(
    corruption={"kind": "noise", "sigma_n": 0.4},
    evaluation={"samples": 600, "seeds": [0, 1], "classifier": True},
    network={"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
    sampling={"num_steps": 4, "show": 16},
    teacher={"images": 64, "batch_size": 32},
    student={"images": 64, "batch_size": 32, "select_every": 32, "select_samples": 64},
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "run"
    run(RECIPE, path)
    return path


def values(results: list[Result]) -> dict[tuple[str, str, str, str], float]:
    return {(r.subject, r.metric, r.features, r.reference): r.value for r in results}


def test_every_result_carries_its_protocol(trained: Path) -> None:
    results, checks = load_results(trained / "metrics.json")
    found = values(results)
    for space in ("pixels", "classifier"):
        assert ("student", "kid", space, "clean") in found or space == "pixels"
        for metric in ("frechet", "precision", "recall", "density", "coverage"):
            for subject in ("measurements", "teacher-full", "teacher-truncated", "student"):
                assert (subject, metric, space, "clean") in found
    assert ("student", "kid", "pixels", "measurements") not in found  # blind to noise there
    assert ("measurements", "frechet", "pixels", "measurements") not in found
    assert ("student", "inception-score", "classifier", "clean") in found
    assert found["teacher-truncated", "psnr", "pairs", "clean"] > 0
    drawn = [r for r in results if r.seeds]
    assert all(r.uncertainty == "seeds" and r.std is not None and r.n == 600 for r in drawn)
    assert all(r.features_fingerprint and r.reference_fingerprint and r.resize == "none" for r in results)
    assert {r.settings["k"] for r in results if r.metric in ("precision", "recall")} == {3}
    assert {c.name for c in checks} >= {"hidden-share", "memorisation", "duplicates", "residuals", "likelihood"}
    assert {c.subject for c in checks} == {None, "teacher-full", "teacher-truncated", "student"}


def test_processes_that_share_the_work_find_the_same(trained: Path) -> None:
    alone, checks = load_results(trained / "metrics.json")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "restill", "evaluate", str(trained)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    together, checks_together = load_results(trained / "metrics.json")
    first, second = values(alone), values(together)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value == pytest.approx(second[key], rel=1e-4, abs=1e-6), key
    assert [c.name for c in checks] == [c.name for c in checks_together]


def test_statistics_of_a_reference_serve_instead_of_its_images(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "pixels.npz"
    before = (trained / "metrics.json").read_bytes()
    assert _run_app(["evaluate", str(trained), "--features", "pixels", "--write-reference", str(file)]) == 0
    assert (trained / "metrics.json").read_bytes() == before
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["mu"].shape == (64,) and arrays["sigma"].shape == (64, 64)
    known = values(load_results(trained / "metrics.json").results)
    assert _run_app(["evaluate", str(trained), "--features", "pixels", "--reference", str(file)]) == 0
    found = values(load_results(trained / "metrics.json").results)
    key = ("student", "frechet", "pixels", "clean")
    assert found[key] == pytest.approx(known[key], rel=1e-6)
    assert ("student", "precision", "pixels", "clean") not in found  # needs single images
    (trained / "metrics.json").write_bytes(before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference", "{run}/store"], "holds measurements"),
        (["--reference", "{tmp}/none"], "no such store"),
        (["--held-out", "{run}/reference"], "holds clean images"),
        (["--reference", "{tmp}/none.npz"], "--features"),
        (["--reference", "{tmp}/none.npz", "--features", "pixels"], "none.npz"),
        (["--features", "pixel"], "pixels"),
        (["--features", "inception:{tmp}/none.pth"], "none.pth"),
        (["--set", "evaluation.metrics=[fid]"], "frechet"),
        (["--write-reference", "{tmp}/x.npz"], "--features"),
    ],
)
def test_bad_input(
    trained: Path, tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "metrics.json").read_bytes()
    filled = [argument.format(run=trained, tmp=tmp_path) for argument in arguments]
    assert _run_app(["evaluate", str(trained), *filled]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and words in error[0]
    assert (trained / "metrics.json").read_bytes() == before


def test_nothing_clean_is_needed(trained: Path, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(
        update={"data": RECIPE.data.model_copy(update={"source": str(trained / "store"), "content": "store"})}
    )
    results, verdict = run(recipe, tmp_path / "run")
    assert {r.reference for r in results} == {"measurements", "measurements-half"}
    assert {r.metric for r in results} >= {"frechet", "precision", "recall", "density", "coverage"}
    assert "judged by measurements alone" in verdict.answer or verdict.wins is False


def test_checks_can_be_left_out(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Audit, "of_subject", lambda *_: pytest.fail("looked"))
    before = (trained / "recipe.yaml").read_bytes(), (trained / "metrics.json").read_bytes()
    recipe = RECIPE.model_copy(update={"evaluation": RECIPE.evaluation.model_copy(update={"checks": False})})
    with working_on(trained, recipe) as current:
        results, checks = evaluate(current)
    assert results and not checks
    assert json.loads((trained / "metrics.json").read_text())["checks"] == []
    for name, content in zip(("recipe.yaml", "metrics.json"), before, strict=True):
        (trained / name).write_bytes(content)


def test_too_few_images_for_the_features_are_said(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "recipe.yaml").read_bytes(), (trained / "metrics.json").read_bytes()
    few = ["--set", "evaluation.samples=60", "--set", "evaluation.classifier=false"]
    assert _run_app(["evaluate", str(trained), *few, "--held-out", str(trained / "store")]) == 0
    checks = {c.name: c for c in load_results(trained / "metrics.json").checks}
    assert checks["sample-size"].settings == {"needs": 65} and "65" in checks["sample-size"].sentence
    assert "Warning (sample-size)" in capsys.readouterr().out
    assert checks["memorisation"].settings["held_out"] == len(digits())
    for name, content in zip(("recipe.yaml", "metrics.json"), before, strict=True):
        (trained / name).write_bytes(content)


def test_asking_for_other_metrics_evaluates_again(trained: Path) -> None:
    before = (trained / "recipe.yaml").read_bytes(), (trained / "metrics.json").read_bytes()
    section = RECIPE.evaluation.model_copy(update={"metrics": ("frechet",), "classifier": False, "checks": False})
    results, _ = run(RECIPE.model_copy(update={"evaluation": section}), trained)
    assert {r.metric for r in results} == {"frechet"}
    for name, content in zip(("recipe.yaml", "metrics.json"), before, strict=True):
        (trained / name).write_bytes(content)


def test_restoration_is_the_posterior_mean() -> None:
    """For Gaussian images the optimal denoiser at the level of each measurement; nearer to the image than that was."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(64, 64, generator=generator, dtype=torch.float64) / 8
    covariance = root @ root.T
    x = (torch.randn(500, 64, generator=generator, dtype=torch.float64) @ root.T).view(500, 1, 8, 8)
    corruption = AdditiveNoise(sigma_n=(0.3, 0.6))
    operator = corruption.draw(500, (1, 8, 8), generator)
    y = corruption.corrupt(x, operator, generator)
    network = GaussianDenoiser(covariance)
    network.register_parameter("unused", torch.nn.Parameter(torch.zeros(())))  # tells the device
    restored = posterior_mean(network, Batch(y, operator, None)).double()
    for level in (0.3, 0.6):
        rows = operator.sigma_n == torch.tensor(level)
        wiener = covariance @ torch.linalg.inv(covariance + level**2 * torch.eye(64, dtype=torch.float64))
        assert int(rows.sum()) > 100
        assert torch.allclose(restored[rows].flatten(1), y[rows].flatten(1) @ wiener.T, atol=1e-5)
    assert psnr(restored, x).value > psnr(y, x).value + 1
