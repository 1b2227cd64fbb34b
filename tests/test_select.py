"""Snapshots of a distillation, and the choice among them."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from scipy import stats

from restill.acquisition import corrupt_images
from restill.checkpoint import load_network, load_state, load_state_data, save_state
from restill.cli import app as cli
from restill.core import progress
from restill.core.errors import UserError
from restill.core.modules import restore_module
from restill.core.tensors import mix_seed
from restill.corruption import AdditiveNoise
from restill.io import array_source
from restill.metrics import PixelFeatures, feature_moments, frechet_distance, recorrupted
from restill.report.selection_report import selection_table
from restill.runs import (
    Run,
    distill,
    open_run,
    prepare_store,
    pretrain,
    working_on,
)
from restill.runs.selecting import select
from restill.sampling import OneStep, generate
from restill.selection import Candidate, choose
from restill.selection.measuring import Measurer
from restill.selection.snapshots import Snapshot, Snapshots, averaged, parts_of, snapshot_steps, snapshots_in
from restill.store import open_store
from restill.store.reference import open_reference
from restill.training import Progress
from restill.training.posthoc import TRACKED, combine
from tiny import different, images, tiny_recipe

LENGTHS = (0.05, 0.15)
SAMPLES = 24


def tiny_run(folder: Path, snapshots: int = 4) -> Run:
    """A finished run on 40 pictures, of 10 steps of distillation; continues the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "clean.npy", images(40)[:, 0])
    recipe = tiny_recipe(
        data={"source": str(folder / "clean.npy")},
        corruption={"kind": "noise", "sigma_n": 0.3},
        network={"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
        teacher={"images": 160, "batch_size": 16, "adam": {"lr": 1e-3}},
        student={
            "images": 160,
            "batch_size": 16,
            "select_every": 48,
            "select_samples": SAMPLES,
            "snapshots": snapshots,
            "generator": {"lr": 1e-3},
            "fake": {"lr": 1e-3},
        },
        execution={"checkpoint_every_s": 1e-9},
    )
    with working_on(folder / "run", recipe) as run:
        prepare_store(run)
        pretrain(run)
        distill(run)
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("select") / "made"
    tiny_run(folder)
    return folder / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    """A copy of the finished run, to be changed."""
    shutil.copytree(made, tmp_path / "run")
    return open_run(tmp_path / "run")


def saved(run: Run) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((run.stage("student") / "selection.json").read_text())
    return data


class Drawn:
    """Counts the images that a selection draws."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, until: int | None = None) -> None:
        self.count, original = 0, Measurer.measure

        def measure(*arguments: Any) -> dict[str, Any]:
            if until is not None and self.count == until:
                raise KeyboardInterrupt
            self.count += 1
            return original(*arguments)

        monkeypatch.setattr(Measurer, "measure", measure)


# snapshots


@pytest.mark.parametrize("steps", [1, 7, 100, 187_500])
@pytest.mark.parametrize("number", [0, 1, 3, 16])
def test_snapshots_are_evenly_spaced(steps: int, number: int) -> None:
    found = sorted(snapshot_steps(steps, number))
    assert len(found) == min(steps, number)
    if found:
        gaps = np.diff([0, *found])
        assert found[-1] == steps and gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_the_files_of_a_run(made: Path) -> None:
    found = snapshots_in(open_run(made).snapshots)
    assert [s.path.name for s in found] == [
        f"{16 * step:08d}-{width:g}.safetensors" for step in (2, 5, 8, 10) for width in TRACKED
    ]
    end, _ = load_state(made / "student" / "state.safetensors")
    for snapshot in found[-2:]:  # of the last step, like the state
        tensors, data = load_state(snapshot.path)
        assert data == {"images": 160, "sigma_rel": snapshot.sigma_rel}
        prefix = f"power-{snapshot.sigma_rel:g}/net."
        assert different(tensors, {k.removeprefix(prefix): v for k, v in end.items() if k.startswith(prefix)}) == []
        assert sum(value.numel() for value in tensors.values()) > 10_000
        assert all(value.dtype == torch.float32 for value in tensors.values())
    first, last = (load_state(found[k].path)[0] for k in (0, -2))
    assert len(different(first, last)) > 10


def test_without_snapshots_a_run_is_the_same(tmp_path: Path, made: Path) -> None:
    run = tiny_run(tmp_path / "other", snapshots=0)
    assert not run.snapshots.exists()
    end, whole = (load_state(path / "student" / "state.safetensors")[0] for path in (run.path, made))
    changed = set(different(end, whole))
    assert changed and all(name.startswith("power-") for name in changed)
    models = [load_state(path / "student" / "model.safetensors")[0] for path in (run.path, made)]
    assert different(*models) == []
    with pytest.raises(UserError, match=r"snapshots: holds no snapshots of the student; distil it with student\.snap"):
        select(run)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_continued_run_has_the_same_snapshots(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Killed after a snapshot of step 5, with the state of this step or of the one before."""
    with monkeypatch.context() as patched:
        original = Snapshots.__call__

        def killing(self: Snapshots, now: Progress) -> None:
            original(self, now)
            if now.step == 6 - lost:
                raise KeyboardInterrupt

        patched.setattr(Snapshots, "__call__", killing)
        with pytest.raises(KeyboardInterrupt):
            tiny_run(tmp_path)
    state = tmp_path / "run" / "student" / "state.safetensors"
    assert load_state_data(state)["step"] == 5 - lost
    (tmp_path / "run" / "student" / "snapshots" / ".00000080-0.05.safetensors.1.tmp").write_text("half")
    run = tiny_run(tmp_path)
    names = sorted(file.name for file in run.snapshots.iterdir())
    assert names == sorted(file.name for file in (made / "student" / "snapshots").iterdir())
    for name in names:
        (ours, data), (theirs, expected) = (
            load_state(path / "student" / "snapshots" / name) for path in (run.path, made)
        )
        assert different(ours, theirs) == [] and data == expected


def test_an_average_is_the_sum_of_its_parts(made: Path) -> None:
    snapshots = snapshots_in(open_run(made).snapshots)
    (same,) = parts_of(snapshots, 128, 0.1) or ()
    assert same == (snapshots[5].path, 1.0)
    parts = parts_of(snapshots, 128, 0.15) or ()
    assert [path for path, _ in parts] == [s.path for s in snapshots[:6]]
    weights = combine([(s.images, s.sigma_rel) for s in snapshots], (128, 0.15))
    tensors, name = averaged(parts), "model.dec.8x8_block0.conv0.weight"
    files = [load_state(s.path)[0] for s in snapshots]
    expected = sum(w * f[name].double() for w, f in zip(weights.tolist(), files, strict=True))
    assert tensors.keys() == files[0].keys()
    torch.testing.assert_close(tensors[name].double(), expected, rtol=1e-6, atol=1e-9)
    assert not torch.equal(tensors[name], files[5][name])
    assert parts_of(snapshots, 32, 0.2) is None  # two snapshots at one time do not determine it


# the choice


def test_a_row_is_what_it_says(run: Run) -> None:
    """The distance of one candidate, recomputed with nothing of the selection."""
    reference = open_reference(run.reference)
    choice = select(run, run.reference, LENGTHS)
    row = next(row for row in saved(run)["rows"] if row["sigma_rel"] == 0.05)
    denoiser, config = load_network(run.stage("student"))
    file = run.snapshots / f"{row['images']:08d}-{row['sigma_rel']:g}.safetensors"
    restore_module(denoiser.net, load_state(file)[0])
    features, store = PixelFeatures((1, 8, 8)), open_store(run.store)
    measured = feature_moments([store.batch(torch.arange(40)).y], features)
    clean = feature_moments([reference.images(torch.arange(40))], features)
    values, distances = [], []
    for repeat in range(3):
        seed = mix_seed("select", 0, repeat)
        assert config.init_sigma is not None
        drawn = torch.cat(
            list(generate(denoiser, OneStep(init_sigma=config.init_sigma), range(SAMPLES), (1, 8, 8), seed))
        )
        values.append(
            frechet_distance(feature_moments(recorrupted([drawn], store.corruption, seed), features), measured)
        )
        distances.append(frechet_distance(feature_moments([drawn], features), clean))
    assert row["values"] == pytest.approx(values, rel=1e-5)
    assert row["proximal_frechet"] == pytest.approx(np.mean(values), rel=1e-5)
    assert 0 < row["error"] < row["proximal_frechet"]
    assert row["clean_frechet"] == pytest.approx(np.mean(distances), rel=1e-5)
    assert min(choice.candidates, key=lambda c: c.proximal) is choice.best


def test_all_checkpoints_are_measured_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn(monkeypatch)
    choice = select(run, sigma_rels=LENGTHS)
    names = [(c.images, c.sigma_rel) for c in choice.candidates]
    own = load_state_data(run.stage("student") / "model.safetensors")["images_seen"]
    # 0.15 is not determined by the few snapshots up to 80 images
    expected = [(n, s) for n in (32, 80, 128, 160) for s in LENGTHS if n > 80 or s == 0.05]
    assert names == [*expected, (own, None)] and drawn.count == 7 and choice.left_out == 2
    assert len({c.proximal for c in choice.candidates}) == 7
    data = saved(run)
    assert data["best"]["proximal_frechet"] == min(row["proximal_frechet"] for row in data["rows"])
    assert data["sentences"] == choice.sentences and len(data["rows"]) == 7
    with Image.open(run.stage("student") / "selection.png") as picture:
        assert picture.format == "PNG" and len(set(picture.convert("L").tobytes())) > 10
    assert select(run, sigma_rels=LENGTHS) == choice and drawn.count == 7
    more = select(run, sigma_rels=(0.1, 0.15))  # four times 0.1 is new
    assert drawn.count == 11 and len(more.candidates) == 7
    assert select(run, sigma_rels=LENGTHS) == choice and drawn.count == 11  # rows that were not asked for stay


def test_other_weights_are_measured_anew(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = select(run, sigma_rels=(0.05, 0.1))
    file = run.snapshots / "00000128-0.1.safetensors"
    tensors, data = load_state(file)
    save_state(file, {name: 1.1 * value for name, value in tensors.items()}, data)
    drawn = Drawn(monkeypatch)
    after = select(run, sigma_rels=(0.05, 0.1))
    pairs = zip(before.candidates, after.candidates, strict=True)
    assert [old.name for old, new in pairs if old != new] == ["128 images, sigma_rel 0.1"] and drawn.count == 1


def test_an_interrupted_selection_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        Drawn(patched, until=3)
        with pytest.raises(KeyboardInterrupt):
            select(run, sigma_rels=LENGTHS)
    drawn = Drawn(monkeypatch)
    choice = select(run, sigma_rels=LENGTHS)
    assert drawn.count == 4 and len(choice.candidates) == 7


def clean_store(folder: Path, pictures: np.ndarray) -> Path:
    """A reference of pictures `[n, 1, 8, 8]`, uint8, in the range of the measurements."""
    pictures[0, 0, 0, :2] = (0, 255)
    corruption = AdditiveNoise(sigma_n=0.3)
    corrupt_images(array_source(pictures, layout="NCHW"), corruption, folder / "y", folder / "clean", seed=0)
    return folder / "clean"


def drawn_by(run: Run, other: Candidate, n: int = 600) -> np.ndarray:
    """Pictures of a candidate's student, uint8."""
    denoiser, config = load_network(run.stage("student"))
    restore_module(
        denoiser.net, averaged(parts_of(snapshots_in(run.snapshots), other.images, other.sigma_rel or 0.0) or ())
    )
    sampler = OneStep(init_sigma=config.init_sigma or 0.0)
    batches = generate(denoiser, sampler, range(n), (1, 8, 8), seed=1)
    return torch.cat([((x + 1) * 127.5).round().clamp(0, 255).byte() for x in batches]).numpy()


def test_clean_images_are_shown_and_never_choose(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn(monkeypatch)
    without = select(run, sigma_rels=LENGTHS)
    assert without.oracle is None and not any("clean" in sentence for sentence in without.sentences)
    worst = max(without.candidates[:-1], key=lambda c: c.proximal)
    clean, oracles = [], []
    for name, pictures in (("real", images(40, seed=5)), ("of the worst", drawn_by(run, worst))):
        choice = select(run, clean_store(tmp_path / name, pictures), LENGTHS)
        best, oracle = choice.best, choice.oracle
        assert best.name == without.best.name
        assert [c.values for c in choice.candidates] == [c.values for c in without.candidates]
        clean.append([c.clean for c in choice.candidates])
        assert oracle is not None and oracle.clean == min(clean[-1])
        assert choice.sentences[-1 - (choice.left_out > 0)] == (
            f"chosen {best.name}: clean {best.clean:.4g}; the oracle's best {oracle.clean:.4g} ({oracle.name}); "
            "the clean images were not used for choosing"
        )
        oracles.append(oracle.name)
    assert drawn.count == 3 * 7 and clean[0] != clean[1]
    assert oracles[1] != without.best.name  # a choice by these images would be another


# --keep


def test_keep_makes_the_best_the_students(run: Run) -> None:
    folder, own = run.stage("student"), load_network(run.stage("student"))
    run.metrics.write_text("{}")
    os.utime(run.metrics, (1e9, 1e9))
    _make_best(run, lambda row: (row["images"], row["sigma_rel"]) == (128, 0.15))
    choice = select(run, sigma_rels=LENGTHS, keep=True)
    assert choice.best.name == "128 images, sigma_rel 0.15"
    denoiser, config = load_network(folder)
    expected = averaged(parts_of(snapshots_in(run.snapshots), 128, 0.15) or ())
    assert different({k.removeprefix("net."): v for k, v in denoiser.state_dict().items()}, expected) == []
    assert (config.images_seen, config.ema_sigma_rel, config.init_sigma) == (128, 0.15, own[1].init_sigma)
    model = folder / "model.safetensors"
    assert model.stat().st_mtime > run.metrics.stat().st_mtime  # so that the metrics count as out of date
    before = model.stat().st_mtime_ns
    assert select(run, sigma_rels=LENGTHS, keep=True) == choice and model.stat().st_mtime_ns == before
    # the run's own student is still among the candidates, and can be brought back
    assert choice.candidates[-1].images == own[1].images_seen and choice.candidates[-1].sigma_rel is None
    _make_best(run, lambda row: row["sigma_rel"] is None)
    select(run, sigma_rels=LENGTHS, keep=True)
    back = load_network(folder)
    assert back[1] == own[1] and different(back[0].state_dict(), own[0].state_dict()) == []


def test_keep_is_finished_after_a_kill_between_the_two_files(run: Run) -> None:
    _make_best(run, lambda row: (row["images"], row["sigma_rel"]) == (160, 0.05))
    model = run.stage("student") / "model.safetensors"
    own = model.read_bytes()
    select(run, sigma_rels=LENGTHS, keep=True)
    kept = load_state(model)[0]
    model.unlink()  # rather than overwrite it, for what was loaded is mapped from it
    model.write_bytes(own)  # config.json is already the new one
    select(run, sigma_rels=LENGTHS, keep=True)
    again = load_state(model)
    assert different(kept, again[0]) == [] and again[1]["ema_sigma_rel"] == 0.05
    assert (run.snapshots / "own.safetensors").read_bytes() == own


def _make_best(run: Run, chosen: Callable[[dict[str, Any]], bool]) -> None:
    """Measure, then let a row be the best in what is remembered."""
    select(run, sigma_rels=LENGTHS)
    data = saved(run)
    for row in data["rows"]:
        row["values"] = [1e-3 * value if chosen(row) else 1.0 + value for value in (1.0, 2.0, 3.0)]
    (run.stage("student") / "selection.json").write_text(json.dumps(data))


def test_without_keep_the_student_stays(run: Run) -> None:
    files = [run.stage("student") / name for name in ("model.safetensors", "config.json")]
    before = [file.read_bytes() for file in files]
    select(run, sigma_rels=LENGTHS)
    assert [file.read_bytes() for file in files] == before
    assert {file.name for file in run.snapshots.iterdir()} == {s.path.name for s in snapshots_in(run.snapshots)}


# statistics of the choice


def candidate(sigma_rel: float | None, *values: float, clean: float | None = None) -> Candidate:
    return Candidate(1000, sigma_rel, values, 0.25, clean)


def test_near_is_a_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        common = rng.normal(size=3)
        a, b = (common + 0.3 * rng.normal(size=3) + 10 for _ in range(2))
        best, other = sorted([candidate(0.05, *a), candidate(0.1, *b)], key=lambda c: c.proximal)
        p = stats.ttest_rel(a, b).pvalue
        assert (other in choose([other, best]).near) == bool(p > 0.05), p
        assert choose([other, best]).best is best


def test_what_the_draws_have_in_common_does_not_count() -> None:
    best, same = candidate(0.05, 1.0, 2.0, 3.0), candidate(0.1, 1.1, 2.1, 3.1)
    near = candidate(0.2, 1.1, 1.9, 3.1)
    choice = choose([same, near, best])
    assert choice.best is best and choice.near == (near,)
    assert best.proximal == 2
    assert "1 of 2 others (marked ≈) do not differ significantly from it" in choice.sentences[1]
    with pytest.raises(UserError, match="there is no checkpoint to choose from"):
        choose([])


def test_the_table_shows_all_and_marks_the_best() -> None:
    rows = [candidate(0.05, 1.0, 1.1, clean=0.5), candidate(None, 2.0, 2.5, clean=0.75)]
    stream = io.StringIO()
    Console(file=stream, width=100).print(selection_table(choose(rows)))
    lines = [line.split() for line in stream.getvalue().splitlines() if line.strip().startswith("1,000")]
    assert lines == [["1,000", "0.05", "1.05", "0.25", "0.5", "★"], ["1,000", "own", "2.25", "0.25", "0.75", "≈"]]
    assert choose(rows).oracle is rows[0]


# mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma_rels": (0.05, 0.3)}, "sigma_rel must be above 0 and at most 0.2886, not 0.3"),
        ({"sigma_rels": (0.0,)}, "sigma_rel must be above 0"),
        ({"reference": Path("missing")}, "missing: no such store"),
    ],
)
def test_impossible_options(run: Run, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(run, **options)


def test_damaged_files_are_named(run: Run, tmp_path: Path) -> None:
    file = run.snapshots / "00000080-0.1.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"00000080-0\.1\.safetensors: is not a complete checkpoint of restill"):
        select(run)
    shutil.copyfile(run.state("student"), file)
    with pytest.raises(UserError, match=r"00000080-0\.1\.safetensors: is not a snapshot of a student; remove it"):
        select(run)
    file.write_bytes(content)
    (run.stage("student") / "selection.json").write_text('{"rows": [{}]}')
    with pytest.raises(UserError, match=r"selection\.json: was not written by `restill select`; remove it"):
        select(run)


def test_keep_waits_for_the_end_of_the_distillation(run: Run) -> None:
    tensors, data = load_state(run.state("student"))
    save_state(run.state("student"), tensors, {**data, "step": 8})
    assert len(select(run, sigma_rels=(0.05,)).candidates) == 5
    with pytest.raises(UserError, match=r"distillation is not finished; continue with `restill distill .*run`"):
        select(run, sigma_rels=(0.05,), keep=True)
    (run.stage("student") / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no student yet; run `restill distill .*run`"):
        select(run)


def test_a_snapshot_knows_its_profile() -> None:
    assert Snapshot(Path("x"), 320, 0.05).profile == (320.0, 0.05)


# as a command


def test_the_command(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["select", str(run.path), "--sigma-rel", ".05,.1", "--reference", str(run.reference)]
    assert cli._run_app(words) == 0
    out = capsys.readouterr().out
    assert "chosen " in out and "the oracle's best" in out and "clean Fréchet" in out and "--keep makes" in out
    assert cli._run_app([*words, "--keep"]) == 0
    assert f"next `restill evaluate {run.path}`" in capsys.readouterr().out
    assert cli._run_app(["select", "--help"]) == 0
    assert "Example: restill select " in " ".join(capsys.readouterr().out.split())
    assert cli._run_app(["select", str(run.path), "--sigma-rel", "5%"]) == 2
    assert capsys.readouterr().err == (
        "restill: --sigma-rel '5%': write it as numbers with commas, e.g. --sigma-rel .05,.1\n"
    )


def test_what_the_notes_mean_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress, "console", Console(file=stream, width=200))
    for steps in (1, 5):  # quick work says nothing
        with progress.progress_bar("student", 100, explain="the gap falls") as advance:
            for _ in range(steps):
                clock[0] += 6
                advance(done=1, note="gap 1")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "the gap falls" and len(lines) == 3 and all(line.startswith("student") for line in lines[1:])
    monkeypatch.setattr(progress, "console", Console(file=stream, width=200, force_terminal=True))
    with progress.progress_bar("student", 100, explain="the bar has it above"):
        pass
    assert stream.getvalue().count("the bar has it above") == 1
