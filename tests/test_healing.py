"""What is missing, half done or left over is made whole by the command that makes it, or one line says how."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import restill.cli.app as cli
import restill.store.writer
from restill.acquisition import corrupt_images
from restill.checkpoint import load_state, save_state
from restill.core.errors import UserError
from restill.corruption import AdditiveNoise
from restill.io import array_source
from restill.runs import distill, open_run, prepare_store, pretrain, working_on
from restill.runs.recipe_files import load_recipe
from restill.store import open_store
from restill.store.reference import open_reference
from tiny import SETTINGS, images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with teacher and student."""
    folder = tmp_path_factory.mktemp("healing")
    np.save(folder / "images.npy", images(40))
    more = [f"data.source={folder / 'images.npy'}", "student.snapshots=0", "student.select_every=16"]
    with working_on(folder / "run", load_recipe("tiny-noise", [*SETTINGS, *more])) as current:
        prepare_store(current)
        pretrain(current)
        distill(current)
    return folder / "run"


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def best(run: Path, step: int) -> None:
    """Let the state say that the student was best at a step."""
    tensors, data = load_state(run / "student" / "state.safetensors")
    save_state(run / "student" / "state.safetensors", tensors, {**data, "best": {**data["best"], "step": step}})


def distilled(run: Path) -> None:
    with working_on(run, open_run(run).recipe) as current:
        distill(current)


def weights(run: Path, stage: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (run / stage).glob("[mc]*.*") if file.is_file()}


@pytest.mark.parametrize("gone", [["model.safetensors"], ["config.json"], ["model.safetensors", "config.json"]])
@pytest.mark.parametrize("earlier", [False, True], ids=["best at the end", "best before"])
def test_a_student_without_its_network(
    copy: Path, gone: list[str], earlier: bool, recwarn: pytest.WarningsRecorder
) -> None:
    """The state is of the last step. If the student was best before it, only a new distillation makes it again."""
    expected, steps = weights(copy, "student"), 3
    at_the_end = load_state(copy / "student" / "state.safetensors")[1]["best"]["step"] == steps
    best(copy, 1 if earlier else steps)
    for name in gone:
        (copy / "student" / name).unlink()
    distilled(copy)
    assert bool([w for w in recwarn if "distilled again" in str(w.message)]) == earlier
    if earlier or at_the_end:
        assert weights(copy, "student") == expected
    assert set(weights(copy, "student")) == set(expected) and not list(copy.glob("*.superseded"))
    assert cli._run_app(["sample", str(copy), "-n", "1", "--out", str(copy.with_name("s"))]) == 0


@pytest.mark.parametrize("gone", ["model.safetensors", "config.json"])
def test_a_teacher_without_its_network(copy: Path, gone: str) -> None:
    expected = weights(copy, "teacher")
    (copy / "teacher" / gone).unlink()
    with working_on(copy, open_run(copy).recipe) as current:
        pretrain(current)
    assert weights(copy, "teacher") == expected


def test_clean_images_of_a_lost_store_stay_until_there_are_new_ones(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_reference(copy / "reference").fingerprint
    shutil.rmtree(copy / "store")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    recipe = open_run(copy).recipe
    with monkeypatch.context() as patched, working_on(copy, recipe) as current:
        patched.setattr("safetensors.torch.save", full)
        for _ in range(2):
            with pytest.raises((UserError, OSError)):
                prepare_store(current)
            assert open_reference(copy / "reference.superseded").fingerprint == before
    with working_on(copy, recipe) as current:
        assert open_reference(copy / "reference", prepare_store(current)).fingerprint == before
    assert not (copy / "reference.superseded").exists()


def test_a_store_of_another_corruption_in_a_run_is_named(made: Path, copy: Path) -> None:
    shutil.rmtree(copy / "store")
    words = ["corrupt", str(made.with_name("images.npy")), "--resize", "16", "--sigma-n", "0.7", "--out"]
    assert cli._run_app([*words, str(copy / "store")]) == 0
    with (
        working_on(copy, open_run(copy).recipe) as current,
        pytest.raises(
            UserError, match=r"store: was measured with noise 0\.7, but the recipe's corruption is noise 0\.2"
        ),
    ):
        prepare_store(current)


def test_a_row_of_the_log_that_was_cut_off_spoils_no_other(copy: Path) -> None:
    current = open_run(copy)
    rows = len(current.read_log())
    with current.log.open("ab") as file:
        file.write(b'{"stage": "teacher", "st')
    current.append_log({"stage": "teacher", "step": 7})
    assert len(current.read_log()) == rows + 1 and current.read_log()[-1]["step"] == 7


def pair(folder: Path, seed: int = 0) -> None:
    source = array_source(images(24), layout="NCHW")
    corrupt_images(source, AdditiveNoise(sigma_n=0.3), folder / "y", folder / "x", seed)


def test_a_pair_of_stores_appears_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = restill.store.writer.moved

    def refused(source: Path, target: Path) -> None:
        if target.name == "y":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(restill.store.writer, "moved", refused)
        with pytest.raises(UserError, match=r"y: cannot be written \(No space left on device\)"):
            pair(tmp_path)
    assert not list(tmp_path.iterdir())
    pair(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_only_the_half_of_an_unfinished_pair_is_made_again(tmp_path: Path) -> None:
    """After a kill between the two; a clean store that somebody made otherwise is never touched."""
    pair(tmp_path)
    partner = {"path": str((tmp_path / "x").resolve()), "sha256": "0" * 64}
    (tmp_path / "y").rename(tmp_path / "y.writing")
    for note in ("", json.dumps({"pid": 1}), json.dumps({"pid": 1, "partner": partner})):
        (tmp_path / ".y.lock").write_text(note)
        with pytest.raises(UserError, match="x: exists already and is never overwritten"):
            pair(tmp_path, seed=1)
    partner["sha256"] = restill.store.writer.sha256(tmp_path / "x" / "manifest.json")
    (tmp_path / ".y.lock").write_text(json.dumps({"pid": 1, "partner": partner}))
    pair(tmp_path, seed=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]
    assert open_reference(tmp_path / "x").pairs_with(open_store(tmp_path / "y"))


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which nothing can be made or removed; root may do so whatever the permissions are."""
    real = os.open

    def refused(path: object, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", path)

    def opened(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            refused(path)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", opened)
    for name in ("mkdir", "unlink", "rmdir", "rename", "replace", "symlink"):
        monkeypatch.setattr(os, name, refused)


@pytest.mark.parametrize(
    "words",
    [
        ["corrupt", "images.npy", "--sigma-n", "0.1", "--out", "y", "--reference", "x"],
        ["import", "images.npy", "--sigma-n", "1", "--out", "y"],
        ["estimate-noise", "images.npy", "--out", "noise.json"],
        ["run", "tiny-noise", "--set", "data.source=images.npy", "--out", "new"],
        ["pretrain", "--out", "run"],
        ["distill", "run"],
        ["evaluate", "run"],
        ["select", "run"],
        ["report", "run"],
        ["sample", "run", "--out", "samples"],
    ],
    ids=lambda words: words[0],
)
def test_a_read_only_file_system_is_said_in_one_line(
    words: list[str],
    made: Path,
    copy: Path,
    read_only: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(copy.parent)
    words = [str(made.with_name(word)) if word == "images.npy" else word for word in words]
    assert cli._run_app([word.replace("=images.npy", f"={made.with_name('images.npy')}") for word in words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "cannot be written (Read-only file system); " in line and len(line) <= 301
    assert cli._run_app(["info", "run"]) == 0
