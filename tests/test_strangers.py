"""A run, a network folder or a store from somebody else is safe to open with every command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from restill.cli.app import _run_app
from tiny import RECIPE, settings

Call = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small evaluated run."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "recipe.yaml").write_text(RECIPE)
    assert _run_app(["run", str(folder / "recipe.yaml"), "--out", str(folder / "run"), *settings()]) == 0
    return folder / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, as a stranger might change it."""
    return Path(shutil.copytree(made, tmp_path / "run", symlinks=True))


PLACES = [
    ".lock", "log.jsonl", "metrics.json", "report.html", "reference", "teacher", "student", "samples", "classifier",
    "baseline", "student/snapshots", "student/.model.safetensors.1.tmp", "teacher/state.safetensors", "store.writing",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_command_writes_or_removes_through_a_link(place: str, run: Path, tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "elsewhere", run / place
    elsewhere.mkdir()
    (elsewhere / "keep").write_text("precious")
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    is_file = link.suffix or place == ".lock"
    link.symlink_to(elsewhere / "keep" if is_file and place != "store.writing" else elsewhere)
    shutil.rmtree(run / "store")  # so that `run` would also make the store again
    for command in ("run", "pretrain", "distill", "evaluate", "select", "report"):
        words = [command, str(run / "recipe.yaml"), "--out", str(run)] if command == "run" else [command, str(run)]
        words = ["pretrain", "--out", str(run)] if command == "pretrain" else words
        assert _run_app(words) == 2, command
    assert [file.name for file in elsewhere.iterdir()] == ["keep"]
    assert (elsewhere / "keep").read_text() == "precious" and link.is_symlink()


def test_a_link_to_the_store_is_read(run: Path, tmp_path: Path, call: Call) -> None:
    (run / "store").rename(tmp_path / "moved")
    (run / "store").symlink_to(tmp_path / "moved")
    assert "store" in call("info", run)
    call("report", run)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize(
    "place",
    [
        "recipe.yaml", "metrics.json", "log.jsonl", "store/manifest.json", "store/shard-00000.safetensors",
        "reference/manifest.json", "teacher/config.json", "student/model.safetensors", "student/state.safetensors",
    ],
)  # fmt: skip
def test_no_command_waits_for_a_pipe(place: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / place).unlink()
    os.mkfifo(run / place)
    for command in ("info", "evaluate", "report", "distill", "sample"):
        more = ["--out", str(run.parent / "drawn"), "-n", "1"] if command == "sample" else []
        code = _run_app([command, str(run), *more])
        error = capsys.readouterr().err.splitlines()
        assert code in (0, 2) and (
            code == 0 or ("pipe" in error[-1] or "missing" in error[-1] or "recipe" in error[-1])
        )


def test_names_and_texts_of_files_do_not_steer_the_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[31m\x9b2J\r[bold]fake[/bold] :boom:"
    for file, key in (("store/manifest.json", "source"), ("metrics.json", "subject")):
        data = json.loads((run / file).read_text())
        if key == "source":
            data["provenance"]["source"] = evil
        (run / file).write_text(json.dumps(data))
    recipe = (run / "recipe.yaml").read_text().replace("name: tiny", f"name: {json.dumps(evil)}")
    (run / "recipe.yaml").write_text(recipe)
    for path in (run, run / "store", run / "recipe.yaml"):
        assert _run_app(["info", str(path)]) == 0
        shown = capsys.readouterr()
        assert "fake" in shown.out and "[bold]fake[/bold] :boom:" in " ".join(shown.out.split())
        assert all(c.isprintable() or c == "\n" for c in shown.out + shown.err)
