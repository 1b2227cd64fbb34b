"""Reports of run directories: what is looked up in the store, and several runs on one page."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from restill.checks.nearest import look_through
from restill.cli import app as cli
from restill.core.tensors import seeded
from restill.corruption import AdditiveNoise
from restill.store import open_store
from tiny import images, settings, tiny_store


def test_the_nearest_measurements_are_those_of_a_plain_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restill.store.samples._NUMBERS", 7 * 96)  # batches of 7, a last one of fewer than two
    store = tiny_store(tmp_path / "y", AdditiveNoise(sigma_n=(0.1, 0.5)), n=50, shape=(2, 8, 6))
    drawn = torch.rand(5, 2, 8, 6, generator=seeded("drawn")) * 2 - 1
    found_range, near = look_through(store, drawn)
    assert near is not None
    y = store.batch(torch.arange(50)).y.double().numpy()
    for image, found, distances in zip(drawn.double().numpy(), near.measurements, near.distances, strict=True):
        differences = np.sqrt(((y - image) ** 2).mean(axis=(1, 2, 3)))
        order = np.argsort(differences)[:2]
        np.testing.assert_allclose(distances.numpy(), differences[order], rtol=1e-12)
        np.testing.assert_array_equal(found.double().numpy(), y[order])
    assert found_range == (float(y.min()), float(y.max()))


def test_a_store_of_one_measurement(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "y", n=1)
    found_range, near = look_through(store, torch.zeros(3, 1, 8, 8))
    y = store.batch(torch.arange(1)).y
    assert near is not None and torch.equal(near.measurements, y.expand(3, 1, 1, 8, 8))
    torch.testing.assert_close(near.distances, y.double().square().mean().sqrt().expand(3, 1))
    assert look_through(store, None) == (found_range, None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two finished runs of different losses on the same measurements."""
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "clean.npy", images(40)[:, 0])
    more = f"data.source={folder / 'clean.npy'}", "data.resize=null"
    first, second = folder / "first", folder / "second"
    assert cli._run_app(["run", "tiny-noise", "--out", str(first), *settings(*more)]) == 0
    shutil.copytree(first, second)
    shutil.rmtree(second / "student")
    (second / "metrics.json").unlink()
    assert cli._run_app(["run", "tiny-noise", "--out", str(second), *settings(*more, "student.loss=dmd")]) == 0
    return first, second


def test_a_report_shows_what_the_run_holds(runs: tuple[Path, Path]) -> None:
    text = (runs[0] / "report.html").read_text(encoding="utf-8")
    store = open_store(runs[0] / "store")
    for words in (
        "40, each 1 × 8 × 8",
        "0.2, stated",
        "Generated image 6",
        "restill run ",
        store.fingerprint,
        "clean.npy",
    ):
        assert words in text, words


def test_two_runs_side_by_side(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = map(str, runs)
    before = {path: path.read_bytes() for folder in runs for path in folder.rglob("*") if path.is_file()}
    assert cli._run_app(["report", first, second]) == 0
    assert "comparison.html" in capsys.readouterr().out
    text = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    for words in ("<h3>first</h3>", "<h3>second</h3>", "student.loss.kind", "&#34;dmd&#34;", "first ends at"):
        assert words in text, words
    assert "differ in 2 keys." in text and "student.loss.alpha" in text and "What cannot be compared" not in text
    assert text.count("data:image/png") == 2
    assert before == {path: path.read_bytes() for folder in runs for path in folder.rglob("*") if path.is_file()}
    assert cli._run_app(["report", first, second, "--out", "again.html"]) == 0
    assert cli._run_app(["report", first, second]) == 0  # an earlier page is replaced


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["first", "first"], "name each run once"),
        (["first", "second", "--out", "mine.txt"], "mine.txt: already exists and was not written"),
        (["first", "nowhere"], "nowhere: is not a run"),
        (["first", "--out", "page.html"], "--out is for several runs"),
        (["first", "bare"], "metrics.json: no such file; run `restill evaluate"),
    ],
)
def test_mistakes(
    words: list[str],
    message: str,
    runs: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for run in runs:
        (tmp_path / run.name).symlink_to(run, target_is_directory=True)
    (tmp_path / "mine.txt").write_text("mine")
    shutil.copytree(runs[0], tmp_path / "bare")
    (tmp_path / "bare" / "metrics.json").unlink()
    assert cli._run_app(["report", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "comparison.html").exists() and not (tmp_path / "page.html").exists()
