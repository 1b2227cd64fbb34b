"""`restill corrupt`, whole runs and operators of one's own, for every kind of corruption, as a person runs them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from restill.cli import app as cli
from restill.cli.options import corruption_of
from restill.corruption import Downsampling, Mask, Poisson, corruption_from, function
from restill.corruption.corruption import drawn_once
from restill.store import open_store
from restill.store.reference import open_reference
from tiny import images, settings

Cli = Callable[..., str]
ROOT = Path(__file__).resolve().parents[1]
CT = ROOT / "examples" / "ct.py"
LAWS = {
    "mask": "{kind: mask, p: 0.5}",
    "mask-noise": "{kind: mask, p: 0.3, pattern: box, sigma_n: 0.1}",
    "blur": "{kind: blur, size: 5, std: 1}",
    "downsampling": "{kind: downsampling}",
    "downsampling-noise": "{kind: downsampling, sigma_n: 0.1}",
    "poisson": "{kind: poisson, gain: 0.05}",
    "compose": "{kind: compose, operators: [{kind: blur, size: 3}, {kind: mask, p: 0.4}], sigma_n: 0.1}",
    "function": "{kind: function, name: ct, sigma_n: 0.05}",
}


@pytest.fixture(autouse=True)
def no_operator_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As at the beginning of a process."""
    monkeypatch.setattr(function, "_FUNCTIONS", {})
    function._check_functions.cache_clear()
    yield
    function._check_functions.cache_clear()


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    np.save(tmp_path / "clean.npy", images(40)[:, 0].astype(np.float32))  # float: samples come as .npy too
    return tmp_path / "clean.npy"


@pytest.mark.parametrize("name", LAWS)
def test_from_clean_images_to_samples(name: str, call: Cli, clean: Path, tmp_path: Path) -> None:
    operator = ["--operator", CT] if name == "function" else []
    run, store = tmp_path / "run", tmp_path / "y"
    line = call("corrupt", clean, "--corruption", LAWS[name], "--out", store, "--reference", tmp_path / "x", *operator)
    assert "40 measurements of shape" in line
    call("pretrain", store, "--recipe", "digits-noise", "--out", run, *operator, *settings())
    call("distill", run, *operator)
    call("sample", run, "-n", 3, "--out", tmp_path / "samples", *operator)
    call("sample", run, "-n", 2, "--sampler", "teacher-full", "--out", tmp_path / "teacher", *operator)
    for folder, n in (("samples", 3), ("teacher", 2)):
        drawn = [np.load(tmp_path / folder / f"{k:06d}.npy") for k in range(n)]
        assert {image.shape for image in drawn} == {(1, 8, 8)} and np.isfinite(drawn).all()
    call("evaluate", run, "--reference", tmp_path / "x", *operator)
    call("report", run, *operator)
    assert (run / "report.html").stat().st_size > 10_000
    assert "measurements with" in call("info", run, *operator)


@pytest.mark.parametrize("name", LAWS)
def test_the_same_seed_writes_the_same_store(name: str, call: Cli, clean: Path, tmp_path: Path) -> None:
    operator = ["--operator", CT] if name == "function" else []
    for store, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ["--corruption", LAWS[name], "--seed", seed, "--out", tmp_path / store, *operator]
        call("corrupt", clean, *words)
    a, b, c = (open_store(tmp_path / store) for store in "abc")
    assert a.fingerprint == b.fingerprint
    drawn = a.corruption.sigma_max > 0 or a.corruption.shapes(a.image_shape).condition > 0
    assert (a.fingerprint != c.fingerprint) == drawn


def test_one_command_with_a_corruption_in_its_settings(call: Cli, tmp_path: Path) -> None:
    more = ["corruption={kind: downsampling, sigma_n: 0.1}"]
    call("run", "digits-noise", "--out", tmp_path / "run", *settings(*more))
    store, reference = open_store(tmp_path / "run" / "store"), open_reference(tmp_path / "run" / "reference")
    every = torch.arange(len(store))
    averages = torch.nn.functional.avg_pool2d(reference.images(every), 2)
    error = store.batch(every).y - averages  # n = 28,752 numbers
    assert (
        abs(error.mean()) < 5 * 0.1 / error.numel() ** 0.5
        and abs(error.std() / 0.1 - 1) < 5 / (2 * error.numel()) ** 0.5
    )


# ways to say what happened


def test_a_corruption_may_be_a_kind_a_mapping_or_a_file(call: Cli, clean: Path, tmp_path: Path) -> None:
    (tmp_path / "law.yaml").write_text("kind: mask\np: 5e-1\n")
    for name, law in (("a", "downsampling"), ("b", tmp_path / "law.yaml"), ("c", "{kind: mask, p: 0.5}")):
        call("corrupt", clean, "--corruption", law, "--out", tmp_path / name)
    a, b, c = (open_store(tmp_path / name) for name in "abc")
    assert a.corruption == Downsampling() and b.corruption == c.corruption == Mask(p=0.5)
    assert b.fingerprint == c.fingerprint


def test_a_recipe_and_changes_to_it(call: Cli, clean: Path, tmp_path: Path) -> None:
    words = ["--recipe", "digits-noise", "--set", "corruption={kind: poisson, gain: 0.1}", "--out", tmp_path / "y"]
    call("corrupt", clean, *words)
    assert open_store(tmp_path / "y").corruption == Poisson(gain=0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "state one of --sigma-n, --corruption and --recipe"),
        (["--sigma-n", 1, "--corruption", "blur"], "state one of --sigma-n, --corruption and --recipe"),
        (["--recipe", "digits-noise", "--corruption", "blur"], "state one of --sigma-n, --corruption and --recipe"),
        (["--corruption", "blur", "--clean-fraction", 0.1], "--clean-fraction needs --sigma-n"),
        (["--corruption", "blur", "--set", "corruption.std=1"], "--set needs --recipe"),
        (["--corruption", "{kind: mask, p: 1.5}"], "corruption.p: must be"),
        (
            ["--corruption", "{kind: mask, pp: 0.5}"],
            "unknown key corruption.pp: did you mean corruption.p?",
        ),
        (["--corruption", "{kind: downsampling, factor: 3}"], "corruption.factor 3 does not divide images of 8 x 8"),
        (["--corruption", "[mask]"], "--corruption: must state the kind of corruption"),
        (["--corruption", "{kind: blur, kernel: psf.npy}"], "psf.npy: no such file"),
        (["--corruption", "{kind: function, name: ct}"], "name its file with --operator ct.py"),
        (
            ["--corruption", "blur", "--operator", "nowhere.py"],
            "nowhere.py: no such file; --plugin takes a",
        ),
    ],
)
def test_mistakes(
    words: list[object], message: str, fails: Cli, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails("corrupt", clean, "--out", "y", "--reference", "x", *words)


def test_import_options_that_are_refused(fails: Cli, clean: Path, tmp_path: Path) -> None:
    line = fails("import", clean, "--sigma-n", 1, "--out", tmp_path / "y", "--image-size", "8x8")
    assert "--image-size: must be H,W, e.g. 128,128, not '8x8'" in line


def test_every_corruption_in_the_documentation_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("psf.npy", np.ones((3, 3)))
    text = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
    found = [corruption_of(law) for law in re.findall(r'"(\{kind: .*?\})"', text)]
    kinds = {"blur", "downsampling", "poisson", "function", "compose", "mask", "mri"}
    assert {corruption_from(law).kind for law in found} == kinds == {law["kind"] for law in found}


# operators of one's own


def test_a_store_of_a_function_needs_its_file_each_time(call: Cli, fails: Cli, clean: Path, tmp_path: Path) -> None:
    store, operator = tmp_path / "y", ["--operator", CT]
    call("corrupt", clean, "--corruption", LAWS["function"], "--out", store, *operator)
    assert "ct" in call("info", store)  # which a person may see without it
    function._FUNCTIONS.clear()
    function._check_functions.cache_clear()
    drawn_once.cache_clear()
    line = fails("pretrain", store, "--recipe", "digits-noise", "--out", tmp_path / "run", *settings())
    assert "operator 'ct' is a Python function that is not loaded; name its file with --operator ct.py" in line
    (tmp_path / "ct.py").write_text("def apply(x):\n    return x[:, :, ::2]\n")
    words = ["pretrain", store, "--recipe", "digits-noise", "--out", tmp_path / "run", *settings()]
    line = fails(*words, "--operator", tmp_path / "ct.py")
    assert "gives [1, 4, 8] from images [1, 8, 8]: another operator measured them" in line


def crash(where: str) -> str:
    return {
        "on loading": "import torch\nrayz = torch.missing_name\n",
        "syntax": "def apply(x)\n    return x\n",
        "in apply": "def helper(x):\n    return x @ x.new_zeros(3)\n\n\ndef apply(x):\n    return helper(x)\n",
    }[where]


@pytest.mark.parametrize(
    ("where", "line", "last"),
    [
        ("on loading", "rayz = torch.missing_name", "mine.py: raises AttributeError"),
        ("syntax", "def apply(x)", "mine.py: raises SyntaxError"),
        ("in apply", "return x @ x.new_zeros(3)", "operator 'mine': apply raises RuntimeError"),
    ],
)
def test_ones_own_code_fails_with_its_own_traceback(
    where: str, line: str, last: str, clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(crash(where))
    words = ["corrupt", clean, "--corruption", "{kind: function, name: mine}", "--operator", tmp_path / "mine.py"]
    assert cli._run_app([str(word) for word in [*words, "--out", tmp_path / "y"]]) == 2
    printed = capsys.readouterr().err
    assert line in printed and f'mine.py", line {2 if where != "syntax" else 1}' in printed
    assert "src/restill" not in printed and "importlib" not in printed  # what called it is of no interest
    assert printed.splitlines()[-1].startswith("restill: ") and last in printed.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.npy", "mine.py"]


def test_the_projector_of_the_example(call: Cli, clean: Path, tmp_path: Path) -> None:
    """Means along rows and columns are those of the images; the adjoint is the adjoint."""
    call("corrupt", clean, "--corruption", "{kind: function, name: ct}", "--out", tmp_path / "y", "--operator", CT)
    store = open_store(tmp_path / "y")
    batch = store.batch(torch.arange(40))
    x = store.manifest.normalisation.normalise(torch.from_numpy(images(40)))
    assert store.shape == (1, 12, 24)
    for angle, axis in ((0, 1), (6, 2)):  # along columns; at 90 degrees along rows
        means = x[:, 0].mean(axis).repeat_interleave(2, dim=1)  # two detectors to a pixel
        np.testing.assert_allclose(batch.y[:, 0, angle, 4:20], means, atol=1e-6)
    v = torch.randn(batch.y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    forward, backward = (batch.operator.apply(x.double()) * v).sum(), (x.double() * batch.operator.adjoint(v)).sum()
    torch.testing.assert_close(forward, backward)
    lines = [line for line in CT.read_text().split('"""')[-1].splitlines() if line.strip()]
    assert len(lines) < 20 and "apply" in CT.read_text()
