"""A stage knows what it was made from: every command notices changed data, and only what is stale is made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import restill.cli.app as cli
from restill.core.errors import UserError
from restill.core.plugins import fingerprint_of, run_file
from restill.runs import distill, open_run, pretrain, run, working_on
from restill.runs.folder import MADE_FROM
from restill.runs.provenance import begin, check
from restill.runs.recipe_files import load_recipe
from restill.store import open_store
from tiny import SETTINGS, images

STAGES = ("teacher", "student")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its clean images."""
    folder = tmp_path_factory.mktemp("provenance")
    np.save(folder / "images.npy", images(40))
    run("tiny-noise", folder / "run", settings(folder))
    return folder / "run"


def settings(folder: Path) -> list[str]:
    return [*SETTINGS, f"data.source={folder / 'images.npy'}", "student.snapshots=0"]


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def again(made: Path, path: Path, *more: str) -> None:
    run("tiny-noise", path, [*settings(made.parent), *more])


def swap(path: Path, *words: str) -> None:
    """Put another store in the place of a run's."""
    shutil.rmtree(path / "store")
    np.save(path.with_name("others.npy"), images(40, seed=7))
    words = (
        "corrupt",
        str(path.with_name("others.npy")),
        "--recipe",
        str(path),
        "--resize",
        "16",
        "--out",
        str(path / "store"),
        *words,
    )
    assert cli._run_app(list(words)) == 0


def weights(path: Path) -> dict[str, bytes]:
    return {stage: (path / stage / "model.safetensors").read_bytes() for stage in STAGES}


def test_a_finished_run_is_up_to_date(made: Path, copy: Path) -> None:
    """Also where it was copied, so that the times of its files say nothing."""
    files = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file() and file.name != "report.html"}
    for stage in STAGES:
        check(open_run(copy), stage)
        noted = json.loads((copy / stage / MADE_FROM).read_text())
        assert noted["inputs"]["store"] == open_store(copy / "store").manifest.fingerprint
        assert noted["settings"][f"{stage}.images"] == 48 and noted["settings"]["seed"] == 0
    again(made, copy)
    assert all(file.read_bytes() == content for file, content in files.items())


def test_a_store_that_is_made_again_is_the_same(made: Path, copy: Path) -> None:
    before = weights(copy)
    shutil.rmtree(copy / "store")
    again(made, copy)
    assert weights(copy) == before
    assert sorted(p.name for p in copy.iterdir()) == sorted(p.name for p in made.iterdir())


def test_another_store_is_noticed_by_every_command_and_everything_is_made_again(
    made: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swap(copy)
    before = weights(copy)
    for words in (
        ["sample", str(copy), "--out", str(copy.with_name("s"))],
        ["evaluate", str(copy)],
        ["distill", str(copy)],
        ["report", str(copy)],
        ["select", str(copy)],
    ):
        capsys.readouterr()
        assert cli._run_app(words) == 2, words
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and "another store" in line and "restill " in line and len(line) <= 301
    assert cli._run_app(["info", str(copy)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("made from another store than there is now: `restill") == 3  # teacher, student, metrics
    results = (copy / "metrics.json").read_text()
    with pytest.warns(UserWarning, match="made again") as warned:
        again(made, copy)
    assert len(warned) == 2
    after = weights(copy)
    assert all(after[stage] != before[stage] for stage in STAGES)
    assert (copy / "metrics.json").read_text() != results
    assert not list(copy.glob("*.superseded"))
    rows = [json.loads(row) for row in (copy / "log.jsonl").read_text().splitlines()]
    assert len(rows) == len((made / "log.jsonl").read_text().splitlines())
    run("tiny-noise", copy.with_name("fresh"), [*settings(made.parent), f"data.source={copy.with_name('others.npy')}"])
    assert weights(copy.with_name("fresh")) == after  # nothing of the old ones is in the new ones


def test_the_old_stage_stays_until_the_new_one_is_complete(
    copy: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    swap(copy)
    old, recipe = weights(copy), load_recipe(copy / "recipe.yaml")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, working_on(copy, recipe) as current:
        patched.setattr("restill.runs.phases.save_network", interrupted)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                pretrain(current)
            assert (copy / "teacher.superseded" / "model.safetensors").read_bytes() == old["teacher"]
    with working_on(copy, recipe) as current:
        pretrain(current)
        assert not (copy / "teacher.superseded").exists() and weights(copy)["student"] == old["student"]
        distill(current)
    assert weights(copy)["student"] != old["student"] and not list(copy.glob("*.superseded"))


def test_data_that_are_put_back_bring_the_old_stage_back(
    copy: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    shutil.copytree(copy / "store", copy.with_name("kept"))
    swap(copy)
    recipe, before = load_recipe(copy / "recipe.yaml"), weights(copy)
    with monkeypatch.context() as patched, working_on(copy, recipe) as current:
        patched.setattr("restill.runs.phases.train_denoiser", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pretrain(current)
        assert not current.trained("teacher")
    shutil.rmtree(copy / "store")
    copy.with_name("kept").rename(copy / "store")
    with working_on(copy, recipe) as current:
        pretrain(current)
        check(current, "student")
    assert weights(copy) == before and not list(copy.glob("*.superseded"))


def test_another_teacher_makes_the_student_stale(copy: Path) -> None:
    current = open_run(copy)
    config = copy / "teacher" / "config.json"
    data: dict[str, Any] = json.loads(config.read_text())
    config.write_text(json.dumps({**data, "images_seen": 1}))
    check(current, "teacher")
    with pytest.raises(
        UserError, match="student: was made from another teacher than there is now; `restill run` makes"
    ):
        check(current, "student")


def test_settings_that_do_not_matter_to_a_stage_may_change(made: Path, copy: Path) -> None:
    before = weights(copy)
    again(made, copy, "sampling.show=4", "execution.log_every=3", "evaluation.samples=24")
    assert weights(copy) == before
    asked = json.loads((copy / "metrics.json").read_text())["asked"]
    assert asked["samples"] == 24


def test_a_recipe_that_was_edited_by_hand_is_refused(copy: Path) -> None:
    text = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(text.replace("dropout: 0.0", "dropout: 0.5"))
    recipe = load_recipe(copy / "recipe.yaml")
    with working_on(copy, recipe) as current, pytest.raises(UserError) as caught:
        pretrain(current)
    assert "made with network.dropout 0.0, but the recipe says 0.5; choose another folder" in str(caught.value)


def test_what_an_older_restill_made_is_taken_as_it_is(
    made: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in STAGES:
        (copy / stage / MADE_FROM).unlink()
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics.pop("made_from")
    (copy / "metrics.json").write_text(json.dumps(metrics))
    before = weights(copy)
    again(made, copy)
    assert weights(copy) == before and not (copy / "teacher" / MADE_FROM).exists()
    assert cli._run_app(["info", str(copy)]) == 0
    assert "not known (an older restill made it)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 1, "inputs": 3, "settings": {}}', "{"])
def test_a_note_that_cannot_be_read_is_named(copy: Path, text: str) -> None:
    (copy / "teacher" / MADE_FROM).write_text(text)
    with pytest.raises(UserError, match=r"made-from\.json: "):
        check(open_run(copy), "teacher")


PLUGIN = """
from restill.objectives import DistillationLoss
class {name}(DistillationLoss, kind="{kind}"):
    def __call__(self, u, x, a, b, s):
        return ((u - a) ** 2).flatten(1).mean(1) * {factor}
"""


def test_the_users_own_code_is_part_of_what_a_stage_was_made_from(copy: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "provenance_loss.py"

    def written(factor: int, comment: str = "") -> Path:
        name = f"Loss{len(list(tmp_path.glob('*.txt')))}"
        (tmp_path / f"{name}.txt").touch()
        plugin.write_text(PLUGIN.format(name="Loss", kind="provenance-loss", factor=factor) + comment)
        run_file(plugin)
        return plugin

    written(1)
    first = fingerprint_of("provenance_loss")
    shutil.rmtree(copy / "student")
    recipe = load_recipe(copy, ["student.loss={kind: provenance-loss}", "plugins=[provenance_loss]"])
    with working_on(copy, recipe) as current:
        begin(current, "teacher")
        begin(current, "student")
        inputs = json.loads((copy / "student" / MADE_FROM).read_text())["inputs"]
        assert inputs["plugin provenance_loss"] == first
        assert "plugin provenance_loss" not in json.loads((copy / "teacher" / MADE_FROM).read_text())["inputs"]
        written(1, "\n# a remark\n\n")
        check(current, "student")
        written(2)
        assert fingerprint_of("provenance_loss") != first
        with pytest.raises(UserError, match=r"student: was made with another provenance_loss\.py than"):
            check(current, "student")
        check(current, "teacher")
