"""`restill info RECIPE`: what a recipe asks for, with or without its images."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from restill.cli import app as cli
from restill.corruption import AdditiveNoise
from restill.runs.recipe_files import load_recipe, save_recipe
from restill.runs.recipe_keys import FAMILIES, recipe_keys
from restill.training.cost import PRECISIONS
from tiny import images, settings, tiny_store

Call = Callable[..., str]
UNSHOWN = ("name", "description")
KINDS = {"corruption": "noise", "network": "ddpmpp", "objective": "standard", "student.loss": "sid", "sampling": "heun"}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run `restill info`; it must succeed. Returns what it prints, in one line."""

    def run(*words: object) -> str:
        code = cli._run_app(["info", *map(str, words)])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return " ".join(captured.out.split())

    return run


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run `restill info`; it must end with exit code 2 and one line, which is returned."""

    def run(*words: object) -> str:
        code = cli._run_app(["info", *map(str, words)])
        captured = capsys.readouterr()
        assert code == 2 and captured.out == "" and captured.err.count("\n") == 1, captured.err
        return captured.err

    return run


def test_a_shipped_recipe(call: Call) -> None:
    text = call("celebahq64-inpainting", *settings())
    assert "celebahq64-inpainting: recipe" in text and "CelebA-HQ at 64x64 with random pixels missing" in text
    assert "to be given with --set data.source=PATH, resized; assuming 3 x 64 x 64" in text
    assert "6 channels in and out, 3 of them for the mask, 64 x 64" in text
    assert "48 images: 3 iterations of 16" in text
    assert re.search(r"images of an iteration 16 16 of them at a time 8 2 GFLOP per image", text)
    assert all(f"{row}, {precision}" in text for row in ("activations", "memory in all") for precision in PRECISIONS)
    assert "Not counted:" in text


def test_keys_of_a_recipe(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    changed = call("digits-noise", "--set", "teacher.adam.decay=none", "--set", "student.loss=dmd")
    assert "Keys that differ from the defaults" in changed
    assert "teacher.images 128_000 images length of the training in images" in changed
    assert "student.loss.kind dmd loss of the generator" in changed and "network.channel_mult [1, 1] factors" in changed
    assert "teacher.adam.decay" not in changed and "student.loss.alpha" not in changed
    every = call("digits-noise", "--keys")
    assert all(f" {key.name} " in every for key in recipe_keys(KINDS) if key.name not in UNSHOWN)
    assert "execution.checkpoint_every_s 30 seconds time between checkpoints" in every


def test_the_documented_table_of_keys_is_current() -> None:
    folder = Path(__file__).parents[1] / "docs"
    spec = importlib.util.spec_from_file_location("recipe_keys_page", folder / "recipe_keys.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (folder / "recipe-keys.md").read_text(encoding="utf-8")
    assert written == module.page(), "run `python docs/recipe_keys.py`"
    for key in recipe_keys(KINDS):  # every key is described, and has a row
        assert key.does
        assert f"| `{key.name}` |" in written or key.name.rpartition(".")[0] in FAMILIES


def test_a_recipe_whose_images_are_there(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clean.npy", images(40, (3, 12, 16)))
    source = "data.source=clean.npy"
    text = call("tiny-noise", *settings(source, "data.resize=null"))
    assert (
        "clean images from clean.npy: 40 of 3 x 12 x 16" in text
        and "assuming" not in text
        and "3 channels in and out, 12 x 16" in text
    )
    assert ": 40 of 3 x 8 x 8" in call("tiny-noise", *settings(source, "data.resize=8"))


def test_measurements_of_another_size_than_their_images(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("low.npy", images(20, (1, 8, 8)))
    law = "corruption={kind: downsampling, factor: 2, sigma_n: 3}"
    more = ["data.source=low.npy", "data.content=measurements", "data.resize=null", law]
    text = call("tiny-noise", *settings(*more))
    assert "20 of 1 x 8 x 8, of images 1 x 16 x 16" in text and "1 channel in and out, 16 x 16" in text


def test_a_store_brings_its_own_law(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_store(Path("y"), AdditiveNoise(sigma_n=0.37))
    Path("mine.yaml").write_text("name: mine\ndata: {content: store, source: y}\n")
    text = call("mine.yaml", *settings())
    assert "mine: recipe" in text and "from the store y: 48 of 1 x 8 x 8" in text and "noise 0.37" in text


def test_where_nobody_can_know_the_size(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\n")
    text = call(path)
    assert "their shape is not known" in text and "its size follows from the images" in text
    assert "What it takes" not in text and "200,000,000 images: 390,625 iterations of 512" in text


def test_images_that_cannot_be_read_are_assumed(call: Call, tmp_path: Path) -> None:
    text = call("tiny-noise", *settings(f"data.source={tmp_path / 'nowhere'}"))
    assert "which cannot be read here" in text and "no such file or folder" in text and "assuming 3 x 16 x 16" in text


def test_a_folder_of_the_name_of_a_recipe(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits-noise").mkdir()
    assert "digits-noise: recipe" in call("digits-noise")
    save_recipe(tmp_path / "digits-noise" / "recipe.yaml", load_recipe("digits-noise", ["seed=11"]))
    assert "digits-noise: run" in call("digits-noise")
    keys = call("digits-noise", "--keys")  # those of the run's own recipe, with its values
    assert "seed 11" in keys and all(f" {key.name} " in keys for key in recipe_keys(KINDS) if key.name not in UNSHOWN)


def test_mistakes(fails: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = "celebahq64-inpaintin: no such file or folder; did you mean the recipe 'celebahq64-inpainting'?"
    assert message in fails("celebahq64-inpaintin")
    assert fails("nowhere") == "restill: nowhere: no such file or folder\n"
    assert "did you mean teacher.images?" in fails("digits-noise", "--set", "teacher.image=5")
    assert "digits-superresolution: corruption.factor" in fails(
        "digits-superresolution", "--set", "corruption.factor=0"
    )
    assert "corruption.factor 3 does not divide" in fails("digits-superresolution", "--set", "corruption.factor=3")
    tiny_store(tmp_path / "y")
    assert "--set needs a recipe" in fails("y", "--set", "seed=1")
    assert "--keys needs a recipe or a run" in fails("y", "--keys")
