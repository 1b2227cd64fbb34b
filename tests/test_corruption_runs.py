"""Whole tiny runs of every kind of corruption: subjects, report, pictures, seeds, and going on when interrupted."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restill.checkpoint import load_state, save_state
from restill.corruption import Mask, corruption_from, function, register_operator
from restill.metrics import load_results
from restill.objectives import AmbientTweedie
from restill.report import corruption_in_words
from restill.report.grids import MISSING
from restill.report.words import teacher_draws
from restill.restoration import shows_image
from restill.runs import Run, evaluate, open_run, run, trained
from restill.runs.recipe_files import Recipe
from restill.runs.selecting import select
from restill.selection.snapshots import OWN
from restill.store import Batch, open_store
from restill.training import (
    Adam,
    Average,
    Batches,
    Distillation,
    DistillationSettings,
    TeacherSettings,
    TeacherTraining,
    Training,
)
from restill.training import run as training_loop
from tiny import different, images, tiny_denoiser, tiny_recipe, tiny_store

Cli = Callable[..., str]
CPU = torch.device("cpu")
BLUR = {"kind": "blur", "size": 3, "std": 1}
LAWS: dict[str, dict[str, Any]] = {
    "mask": {"kind": "mask", "p": 0.5},
    "mask-noise": {"kind": "mask", "p": 0.5, "sigma_n": 0.1, "clean_fraction": 0.1},
    "blur": {"kind": "blur", "kernel": "psf.npy"},
    "blur-noise": {"kind": "blur", "kernel": "motion", "size": 5, "sigma_n": 0.1},
    "downsampling": {"kind": "downsampling"},
    "downsampling-noise": {"kind": "downsampling", "method": "bicubic", "sigma_n": 0.1},
    "poisson": {"kind": "poisson", "gain": 0.05},
    "compose": {"kind": "compose", "operators": [BLUR, {"kind": "mask", "p": 0.4}], "sigma_n": 0.1},
    "compose-low": {"kind": "compose", "operators": ["downsampling", {"kind": "mask", "p": 0.4}]},
    "function": {"kind": "function", "name": "sums", "sigma_n": 0.05},
}
NOISE_FREE = {"mask", "blur", "downsampling", "compose-low"}
RESTORES = {"mask", "mask-noise", "poisson"}  # the teacher denoises images
GAPS = {"mask", "mask-noise", "compose", "compose-low"}


@pytest.fixture(scope="module")
def operator() -> Iterator[None]:
    """Sums of rows and of columns, as of a projector with two angles."""
    known = dict(function._FUNCTIONS)
    register_operator("sums", lambda x: torch.stack([x.sum(-1), x.sum(-2)], dim=-2) / 8)
    yield
    function._FUNCTIONS.clear()
    function._FUNCTIONS.update(known)


def recipe(clean: Path, law: Mapping[str, Any], checks: bool = True) -> Recipe:
    """Two steps of either training on images of a file."""
    return tiny_recipe(
        data={"source": str(clean)},
        corruption=law,
        network={"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
        teacher={"images": 64, "batch_size": 32},
        student={"images": 64, "batch_size": 32, "select_every": 32, "select_samples": 32, "snapshots": 2},
        sampling={"num_steps": 3, "show": 9, "batch_size": 32},
        evaluation={"samples": 70, "seeds": [0], "classifier": False, "checks": checks},
    )


@pytest.fixture(scope="module", params=LAWS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, operator: None) -> Run:
    """A run of one law, from clean images to its report."""
    folder = tmp_path_factory.mktemp(request.param)
    np.save(folder / "clean.npy", images(150)[:, 0])
    np.save(folder / "psf.npy", np.outer([1, 2, 4, 2, 1], [1, 3, 1]).astype(np.float32))
    law = dict(LAWS[request.param])
    law |= {"kernel": str(folder / "psf.npy")} if law.get("kernel") == "psf.npy" else {}
    out = folder / request.param
    run(recipe(folder / "clean.npy", law), out)
    (folder / "psf.npy").unlink()  # nothing asks for it again
    return open_run(out)


def name_of(finished: Run) -> str:
    return finished.path.name


def test_the_subjects_are_those_that_there_are(finished: Run) -> None:
    results, checks = load_results(finished.metrics)
    drawn = {"teacher-full", "student"} | (set() if name_of(finished) in NOISE_FREE else {"teacher-truncated"})
    assert {r.subject for r in results} == drawn | {"real", "measurements"}
    assert {r.subject for r in results if r.metric == "frechet" and r.reference == "measurements"} == drawn
    pairs = {r.subject for r in results if r.metric == "psnr"}
    restored = "teacher-full" if name_of(finished) in NOISE_FREE else "teacher-truncated"
    assert pairs == ({"measurements", restored} if name_of(finished) in RESTORES else set())
    assert {c.name for c in checks if c.subject == "student"} >= {"memorisation", "duplicates", "residuals"}
    assert ("likelihood" in {c.name for c in checks}) == (name_of(finished) not in NOISE_FREE)
    assert all(np.isfinite(r.value) for r in results)


def test_the_report_says_what_went_in_and_dumps_no_array(finished: Run) -> None:
    text = html.unescape(finished.report.read_text(encoding="utf-8"))
    corruption = open_store(finished.store).corruption
    other = "other " if corruption.describe().get("clean_fraction") else ""
    assert f"measurements with {corruption.in_words()}, and no {other}clean image" in text
    assert teacher_draws(corruption) in text
    assert not re.search(r"zlib['\":]", text) and ("an array of 5 x 3" in text) == (name_of(finished) == "blur")
    assert ("Missing pixels are blue." in text) == (name_of(finished) in GAPS)
    assert ("--operator sums.py" in text) == (name_of(finished) == "function")
    assert ("with the arrays in the run's own recipe.yaml" in text) == (name_of(finished) == "blur")
    assert ("teacher-truncated" in text.split("How to reproduce")[0]) == (name_of(finished) not in NOISE_FREE)


def test_missing_pixels_are_shown_where_they_are(finished: Run) -> None:
    picture = np.asarray(Image.open(finished.path / "samples" / "measurements.png").convert("RGB"))
    first = (picture[:32, :32] == MISSING).all(axis=2)  # 8 x 8 pixels, four times as large
    batch = open_store(finished.store).batch(torch.arange(1))
    missing = batch.operator.missing(batch.operator.to_domain(batch.y))
    if missing is None:
        assert not first.any()
    else:
        scale = 32 // missing.shape[-1]
        np.testing.assert_array_equal(first, missing[0, 0].numpy().repeat(scale, 0).repeat(scale, 1))
        assert first.any() or name_of(finished) == "mask-noise"  # one in ten is clean there


def test_samples_lie_on_the_full_grid_and_depend_on_their_seed_alone(finished: Run) -> None:
    for subject in ("student", "teacher-full"):
        source = trained(finished, subject)  # type: ignore[arg-type]
        together = torch.cat(list(source.draw(range(6), seed=3)))
        assert together.shape == (6, 1, 8, 8) and bool(together.isfinite().all())
        assert torch.equal(together, torch.cat(list(source.draw(range(6), seed=3))))
        alone = torch.cat([part for k in (4, 2) for part in source.draw([k], seed=3)])
        assert torch.allclose(alone, together[[4, 2]], atol=1e-5)
        assert not torch.allclose(together, torch.cat(list(source.draw(range(6), seed=4))), atol=1e-3)


def test_a_truncated_teacher_needs_noise(finished: Run, fails: Cli, call: Cli, tmp_path: Path) -> None:
    words = "sample", finished.path, "-n", 2, "--sampler", "teacher-truncated", "--out", tmp_path / "drawn"
    if name_of(finished) in NOISE_FREE:
        assert "have no noise; use teacher-full" in fails(*words)
    else:
        call(*words)
        assert (tmp_path / "drawn" / "000001.png").exists()


def test_the_best_student_can_be_chosen(finished: Run) -> None:
    choice = select(finished, sigma_rels=(0.05, 0.1))
    assert all(np.isfinite(candidate.proximal) for candidate in choice.candidates)
    assert not (finished.snapshots / OWN).exists()


@pytest.mark.parametrize("name", LAWS)
def test_restoration_is_of_what_would_show_the_image(name: str, operator: None, tmp_path: Path) -> None:
    np.save(tmp_path / "psf.npy", np.ones((3, 3), np.float32))
    law = corruption_from(LAWS[name] | ({"kernel": str(tmp_path / "psf.npy")} if name == "blur" else {}))
    x = torch.from_numpy(images(20)).float() / 127.5 - 1
    generator = torch.Generator().manual_seed(0)
    drawn = law.draw(20, (1, 8, 8), generator)
    assert shows_image(Batch(law.corrupt(x, drawn, generator), drawn, None), x) == (name in RESTORES)


def test_runs_with_and_without_noise_side_by_side(call: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "clean.npy", images(80)[:, 0])
    laws = [LAWS["mask"], LAWS["downsampling-noise"]]
    paths = [tmp_path / str(law["kind"]) for law in laws]
    for law, path in zip(laws, paths, strict=True):
        run(recipe(tmp_path / "clean.npy", law, checks=False), path)
    call("report", *paths, "--out", tmp_path / "both.html")
    text = html.unescape((tmp_path / "both.html").read_text(encoding="utf-8"))
    for law in laws:
        assert corruption_in_words(law) in text


ADAM = Adam(lr=1e-3)


def trainings(store_path: Path) -> dict[str, Training]:
    """A teacher and a distillation for masked and noisy measurements."""
    law = Mask(p=0.5, sigma_n=0.1)
    store = open_store(store_path) if store_path.exists() else tiny_store(store_path, law)
    denoiser = tiny_denoiser(condition=1, dropout=0.1)
    teaching = TeacherSettings(images=192, batch_size=16, adam=ADAM, ema=Average(halflife_images=100))
    distilling = DistillationSettings(
        images=192, batch_size=16, generator=ADAM, fake=ADAM, ema=Average(halflife_images=100)
    )
    return {
        "teacher": TeacherTraining(denoiser, Batches(store, 16, 0, CPU), law, teaching, AmbientTweedie(), seed=0),
        "student": Distillation(denoiser, law, (1, 8, 8), distilling, AmbientTweedie(), seed=0, device=CPU),
    }


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_masked_training_goes_on_as_if_it_had_not_stopped(stage: str, tmp_path: Path) -> None:
    whole, first, second = (trainings(tmp_path / "y")[stage] for _ in range(3))
    list(training_loop(whole, 5))
    for progress in training_loop(first, 5):
        if progress.step == 5:
            break
    save_state(tmp_path / "state.safetensors", first.state(), {"step": first.step})
    tensors, data = load_state(tmp_path / "state.safetensors")
    second.restore(tensors, data["step"])
    list(training_loop(second, 5))
    assert whole.step == second.step == 12
    assert different(whole.state(), second.state()) == []
    assert different(whole.state(), first.state())


def test_evaluating_again_finds_the_same(finished: Run) -> None:
    before = load_results(finished.metrics).results
    again = evaluate(finished).results
    for a, b in zip(before, again, strict=True):
        assert (a.subject, a.metric) == (b.subject, b.metric) and a.value == pytest.approx(b.value, rel=1e-9, abs=1e-12)
