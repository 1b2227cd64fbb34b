"""The commands as a person runs them, with good and with bad input."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restill.checkpoint import load_state, load_state_data, save_state
from restill.cli import app as cli
from restill.core.errors import UserError
from restill.core.locks import take
from restill.runs import Run, working_on
from restill.runs.recipe_files import load_recipe
from restill.store import open_store
from restill.store.reference import open_reference
from tiny import RECIPE, SETTINGS, images, settings

COMMANDS = ["run", "corrupt", "import", "info", "pretrain", "distill", "sample", "evaluate", "select", "report"]


class Called:
    """One call of the command line in this process."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Cli = Callable[..., Called]
Fails = Callable[..., str]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command; it must succeed."""

    def run(*words: object) -> Called:
        capsys.readouterr()
        code = cli._run_app([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return Called(code, captured.out, captured.err)

    return run


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Fails:
    """Run a command; it must end with exit code 2 and one line, and change nothing. Returns the line."""

    def run(*words: object, **expected: str) -> str:
        before = contents(tmp_path)
        capsys.readouterr()
        code = cli._run_app([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 2, captured.err
        assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("restill: ")
        assert "Traceback" not in captured.err and "Error:" not in captured.err
        assert contents(tmp_path) == before
        return captured.err

    return run


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with a hash of its bytes, every link, and every folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def pngs(folder: Path, n: int = 40, shape: tuple[int, int, int] = (3, 10, 10)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images(n, shape)):
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(folder / f"{i:03d}.png")
    return folder


# what a new user sees


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, call: Cli) -> None:
    text = " ".join(call(command, "--help").out.split())
    assert f"Example: restill {command} " in text and "--help" in text


def test_the_list_of_commands(call: Cli) -> None:
    assert call().out == call("--help").out
    assert all(f"  {command} " in call().out for command in COMMANDS)


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from restill.cli.app import _run_app; _run_app(['--help']); "
    code += "sys.exit(str({'torch', 'numpy', 'matplotlib', 'sklearn', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "set()\n" and "Usage: restill" in done.stdout


def test_training_does_not_wait_for_plots_and_digits() -> None:
    code = "import sys, restill.runs; sys.exit(str({'matplotlib', 'sklearn', 'torchmetrics'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "set()\n"


def test_the_installed_script_as_a_process(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("restill")
    command = [str(script), "sample", str(tmp_path), "--out", str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"restill: {tmp_path}: is not a run (it has no recipe.yaml); `restill run` makes one\n"


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RESTILL_DEBUG", "1")
    assert cli._run_app(["info", "nowhere"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.endswith("restill: nowhere: no such file or folder\n")


def test_a_failure_of_ours_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(path: Path, *more: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("restill.runs.describe.describe", broken)
    assert cli._run_app(["info", "digits-noise"]) == 1
    assert capsys.readouterr().err == "restill: ValueError: two lines (RESTILL_DEBUG=1 shows where)\n"


# mistakes in words and options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'. (see restill --help)"),
        (["smaple"], "Did you mean 'sample'?"),
        (["run"], "Missing argument 'NAME|FILE.yaml'. (see restill run --help)"),
        (["run", "digits-noise"], "Missing option '--out'"),
        (["run", "digits-noise", "--out", "x", "--sett", "a=1"], "No such option: --sett"),
        (["sample", "x", "-n", "many", "--out", "y"], "'-n'"),
        (["pretrain", "--recipe", "tiny-noise"], "--out is missing"),
        (["pretrain", "--recipe", "tiny-noise", "--out", "x"], "a new run needs both STORE and --recipe"),
        (["corrupt", "digits", "--out", "x"], "state one of --sigma-n, --corruption and --recipe"),
        (["corrupt", "digits", "--sigma-n", "-1", "--out", "x"], "corruption.sigma_n: must be at least 0, not -1.0"),
        (
            ["corrupt", "digits", "--sigma-n", "nan", "--out", "x"],
            "corruption.sigma_n: must be a finite number, not nan",
        ),
        (["corrupt", "digits", "--sigma-n", "1", "--clean-fraction", "2", "--out", "x"], "--clean-fraction must lie"),
        (["import", ".", "--out", "y"], "--sigma-n is missing: state the standard deviation of the noise"),
        (["import", ".", "--out", "y", "--sigma-n", "loud"], "--sigma-n 'loud' must be a number, a file"),
        (
            ["import", ".", "--out", "y", "--sigma-n", "1", "--range", "5"],
            "--range: must be LOW,HIGH, e.g. 0,4095, not '5'",
        ),
        (
            ["import", ".", "--out", "y", "--sigma-n", "1", "--layout", "CHW"],
            "--layout: must be 'auto', 'NHW', 'NHWC' or 'NCHW', not",
        ),
        (
            ["import", ".", "--out", "y", "--sigma-n", "1", "--sigma-unit", "dB"],
            "--sigma-unit: must be 'data' or 'normalised'",
        ),
        (["info", "nowhere"], "nowhere: no such file or folder"),
        (["run", "digit-noise", "--out", "x"], "no such recipe; did you mean 'digits-noise'?"),
        (["run", "digits-noise", "--out", "x", "--set", "teacher.imags=1"], "did you mean teacher.images?"),
        (["run", "digits-noise", "--out", "x", "--set", "teacher.images=many"], "teacher.images: must be"),
        (["run", "digits-noise", "--out", "x", "--set", "objective.kind=standard"], "use ambient-tweedie"),
        (
            ["run", "digits-noise", "--out", "x", "--set", "teacher.accumulate=3"],
            "teacher.accumulate: must divide batch_size 128, not 3",
        ),
        (["run", "digits-noise", "--out", "x", "--precision", "fp8"], "execution.precision: must be 'fp32' or"),
        (
            ["run", "digits-noise", "--out", "x", "--device", "abacus"],
            "device 'abacus' is not known: use auto, cpu, cuda",
        ),
        (["run", "tiny-noise", "--out", "x"], "name the images with --set data.source=PATH"),
        (["run", "tiny-noise", "--out", "x", "--set", "data.source=nowhere"], "nowhere: no such file or folder"),
        (
            ["run", "tiny-noise", "--out", "x", "--set", "data.source=y", "--set", "data.content=store"],
            "y: no such store",
        ),
        (["pretrain", "nowhere", "--recipe", "tiny-noise", "--out", "x"], "nowhere: no such store"),
        (["distill", "nowhere"], "nowhere: is not a run (it has no recipe.yaml)"),
        (["evaluate", "nowhere"], "nowhere: is not a run"),
        (["report", "nowhere"], "nowhere: is not a run"),
        (["sample", "nowhere", "--out", "x"], "nowhere: is not a run"),
    ],
)
def test_mistakes_in_words(
    words: list[str], message: str, fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails(*words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(fails: Fails, tmp_path: Path) -> None:
    line = fails("run", "digits-noise", "--out", tmp_path / "x", "--device", "cuda")
    assert "device 'cuda' is not on this machine: use auto or cpu" in line


# mistakes in images, for each command that reads them


def spoil_empty(folder: Path) -> str:
    for file in folder.iterdir():
        file.unlink()
    (folder / "notes.txt").write_text("no image")
    return "holds no images; looked for "


def spoil_text(folder: Path) -> str:
    (folder / "005.png").write_text("this is text")
    return "005.png: cannot be read as an image"


def spoil_truncated(folder: Path) -> str:
    data = (folder / "005.png").read_bytes()
    (folder / "005.png").write_bytes(data[: len(data) // 2])
    return "005.png: cannot be read as an image"


def spoil_animated(folder: Path) -> str:
    frames = [Image.new("L", (10, 10), k) for k in (0, 200)]
    frames[0].save(folder / "005.gif", save_all=True, append_images=frames[1:])
    return "005.gif: holds several frames or pages; one image per file is needed"


def spoil_size(folder: Path) -> str:
    Image.new("RGB", (12, 10)).save(folder / "005.png")
    return "005.png: is 3 channels of 10x12, 8-bit, but the 5 before it are 3 channels of 10x10"


def spoil_channels(folder: Path) -> str:
    Image.new("L", (10, 10)).save(folder / "005.png")
    return "005.png: is 1 channel of 10x10"


SPOILERS = [spoil_empty, spoil_text, spoil_truncated, spoil_animated, spoil_size, spoil_channels]


@pytest.mark.parametrize("command", ["corrupt", "import", "run"])
@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda f: f.__name__[6:])
def test_mistakes_in_images(command: str, spoil: Callable[[Path], str], fails: Fails, tmp_path: Path) -> None:
    folder = pngs(tmp_path / "images", 8)
    message = spoil(folder)
    out = tmp_path / "out"
    words: list[object] = {
        "corrupt": ["corrupt", folder, "--sigma-n", 0.2, "--out", out, "--reference", tmp_path / "clean"],
        "import": ["import", folder, "--sigma-n", 9, "--out", out],
        "run": ["run", "digits-noise", "--set", f"data.source={folder}", "--out", out],
    }[command]
    line = fails(*words)
    assert f"{folder}" in line and message in line
    assert ("--resize N" in line) == (spoil in (spoil_size, spoil_channels))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(value: float, fails: Fails, tmp_path: Path) -> None:
    array = images(8)[:, 0].astype(np.float32)
    array[5, 2, 2] = value
    np.save(tmp_path / "scans.npy", array)
    line = fails("import", tmp_path / "scans.npy", "--sigma-n", 9, "--out", tmp_path / "y")
    assert "scans.npy: image 5: holds NaN or infinity" in line


def test_noise_levels_that_cannot_be(fails: Fails, tmp_path: Path) -> None:
    np.save(tmp_path / "scans.npy", images(8)[:, 0])
    (tmp_path / "levels.txt").write_text("1 2 3")
    (tmp_path / "words.txt").write_text("loud")
    np.save(tmp_path / "negative.npy", np.array([1, 1, 1, -5, 1, 1, 1, 1.0]))
    for level, message in {
        "-3": "sigma_n must be finite and at least 0, but value 0 is -3.0",
        "nan": "sigma_n must be finite",
        tmp_path / "levels.txt": "levels.txt) has 3 values for 8 images; give one number or one per image",
        tmp_path / "negative.npy": "negative.npy) must be finite and at least 0, but value 3 is -5.0",
        tmp_path / "words.txt": "words.txt) must be numbers",
    }.items():
        assert message in fails("import", tmp_path / "scans.npy", f"--sigma-n={level}", "--out", tmp_path / "y")


# mistakes in stores


@pytest.fixture
def store(tmp_path: Path, call: Cli) -> Path:
    call("corrupt", pngs(tmp_path / "images", 20), "--sigma-n", 0.2, "--out", tmp_path / "y")
    return tmp_path / "y"


def damage(store: Path) -> str:
    shard = store / "shard-00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    return "shard-00000.safetensors: shard is damaged (its sha256 is not that of the manifest)"


def renew(store: Path) -> str:
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps({**manifest, "schema": 2}))
    return "manifest.json: has schema 2, but this restill reads up to 1; install a newer restill"


def unmake(store: Path) -> str:
    (store / "manifest.json").unlink()
    return "is not a store (it has no manifest.json)"


def hold(store: Path) -> str:
    store.rename(store.with_name("y.writing"))
    lock = take(store.with_name(".y.lock"))
    assert lock is not None
    lock.note(json.dumps({"pid": 1}))
    return "y: is still being written by process 1; wait until it has finished"


@pytest.mark.parametrize("mistake", [damage, renew, unmake, hold], ids=lambda f: f.__name__)
def test_mistakes_in_stores(mistake: Callable[[Path], str], store: Path, fails: Fails, tmp_path: Path) -> None:
    message = mistake(store)
    assert message in fails("pretrain", store, "--recipe", "tiny-noise", "--out", tmp_path / "run", *settings())
    if mistake not in (unmake, hold):
        assert message in fails("info", store)


def test_a_store_is_never_overwritten(store: Path, fails: Fails, tmp_path: Path) -> None:
    for words in (
        ["corrupt", tmp_path / "images", "--sigma-n", 0.1, "--out", store],
        ["corrupt", tmp_path / "images", "--sigma-n", 0.1, "--out", tmp_path / "z", "--reference", store],
        ["import", tmp_path / "images", "--sigma-n", 1, "--out", store],
    ):
        assert "y: exists already and is never overwritten" in fails(*words)
    hold(store)
    words = ["corrupt", tmp_path / "images", "--sigma-n", 0.1, "--out", store]
    assert "y: is being written by process 1" in fails(*words)


def test_a_reference_is_no_store_of_measurements(store: Path, call: Cli, fails: Fails, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    call("corrupt", tmp_path / "images", "--sigma-n", 0.2, "--out", tmp_path / "y2", "--reference", clean)
    line = fails("pretrain", clean, "--recipe", "tiny-noise", "--out", tmp_path / "run")
    assert "clean: holds clean images; a store of measurements is needed here" in line


def test_a_recipe_that_contradicts_its_store(store: Path, fails: Fails, tmp_path: Path) -> None:
    words = ["pretrain", store, "--recipe", "tiny-noise", "--out", tmp_path / "run"]
    assert "y: was measured with" in fails(*words, "--set", "corruption.sigma_n=0.3")


# a whole run, and mistakes with it


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of tiny-noise on a folder of PNGs."""
    folder = tmp_path_factory.mktemp("run")
    words = ["run", "tiny-noise", "--out", str(folder / "run"), *settings(f"data.source={pngs(folder / 'images', 40)}")]
    assert cli._run_app(words) == 0
    return folder / "run"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy that may be spoiled."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_of_ones_own_folder(finished_run: Path, call: Cli) -> None:
    results = json.loads((finished_run / "metrics.json").read_text())["results"]
    found = {(r["subject"], r["metric"], r["features"], r["reference"]) for r in results}
    subjects = ("teacher-full", "teacher-truncated", "student")
    metrics = ("frechet", "precision", "recall", "density", "coverage")
    pairs = [(subject, metric) for subject in ("measurements", "teacher-truncated") for metric in ("psnr", "ssim")]
    assert found == {
        *(("measurements", metric, "pixels", "clean") for metric in metrics),
        *((s, metric, "pixels", ref) for s in subjects for metric in metrics for ref in ("clean", "measurements")),
        *((subject, metric, "pairs", "clean") for subject, metric in pairs),
    }
    for result in results:
        assert result["n"] == 32 and "std" in result
        assert result["value"] > 0 or result["metric"] != "frechet"
        assert result["seeds"] == ([] if result["subject"] == "measurements" or result["features"] == "pairs" else [0])
    page = (finished_run / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4 and "tiny-noise" in page
    for name in ("measurements", "teacher-full", "teacher-truncated", "student"):
        assert Image.open(finished_run / "samples" / f"{name}.png").size[0] >= 3 * 16
    assert load_recipe(finished_run).teacher.images == 48
    assert load_state_data(finished_run / "student" / "state.safetensors")["best"]["step"] in (2, 3)
    log = [json.loads(line) for line in (finished_run / "log.jsonl").read_text().splitlines()]
    for stage, keys in {"teacher": {"loss", "grad_norm"}, "student": {"loss", "score_gap", "fake_loss"}}.items():
        assert any(row["stage"] == stage and keys | {"images_per_second", "step"} <= set(row) for row in log)
    assert (finished_run / "teacher" / "model.safetensors").stat().st_mode & 0o077 == 0o666 & ~_umask() & 0o077
    text = call("info", finished_run).out
    assert "40 measurements" in text and "step 3 of 3" in text and "kept: step" in text and "student" in text
    assert "parameters" in call("info", finished_run / "teacher").out
    assert "tensors" in call("info", finished_run / "teacher" / "state.safetensors").out


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_finished_run_is_not_done_again(run: Path, finished_run: Path, call: Cli) -> None:
    same = [f"data.source={finished_run.with_name('images')}"]
    before = contents(run)
    called = call("run", "tiny-noise", "--out", run, *settings(*same))
    assert "report.html" in called.out and "student" in called.out
    after = contents(run)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {"report.html"}


def test_sampling_writes_images_and_a_grid(run: Path, call: Cli, tmp_path: Path) -> None:
    for sampler in ("student", "teacher-full", "teacher-truncated"):
        out = tmp_path / sampler
        call("sample", run, "-n", 5, "--seed", 3, "--out", out, "--sampler", sampler)
        assert sorted(contents(out)) == [*(f"{k:06d}.png" for k in range(5)), "grid.png"]
        pictures = [np.asarray(Image.open(out / f"{k:06d}.png")) for k in range(5)]
        assert all(p.shape == (16, 16, 3) and p.dtype == np.uint8 and p.std() > 0 for p in pictures)
    call("sample", run, "-n", 2, "--seed", 3, "--out", tmp_path / "two")
    call("sample", run, "-n", 2, "--seed", 4, "--out", tmp_path / "other")
    first = [np.asarray(Image.open(tmp_path / name / "000001.png")).astype(int) for name in ("student", "two", "other")]
    assert np.abs(first[0] - first[1]).max() <= 1 and np.abs(first[0] - first[2]).max() > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "run", "-n", "0", "--out", "s"], "-n must be at least 1, not 0"),
        (["sample", "run", "-n", "-4", "--out", "s"], "-n must be at least 1, not -4"),
        (["sample", "run", "--out", "s", "--device", "abacus"], "device 'abacus' is not known"),
        (["sample", "run", "--out", "s", "--sampler", "heun"], "--sampler must be one of"),
        (["sample", "run", "--out", "notes"], "notes: holds files that are not samples; choose another --out"),
        (["sample", "run", "--out", "notes/a.txt"], "notes/a.txt: is a file"),
        (["run", "tiny-noise", "--out", "notes"], "notes: is a non-empty folder without a run"),
        (["run", "tiny-noise", "--out", "notes/a.txt"], "a.txt: is a file"),
        (["run", "digits-noise", "--out", "run"], "run: holds a run of another recipe (name is 'tiny-noise' there"),
        (["distill", "run", "--set", "student.loss=dmd"], "(student.loss.kind is 'sid' there and 'dmd' here)"),
        (["distill", "run", "--set", "student.los=dmd"], "unknown key student.los: did you mean student.loss?"),
        (["pretrain", "--out", "run", "--set", "network.dropout=0.5"], "(network.dropout is 0.0 there and 0.5 here)"),
        (["evaluate", "run", "--reference", "nowhere"], "nowhere: no such store"),
        (["info", "notes"], "notes: is neither a store, run or network folder of restill"),
    ],
)
def test_mistakes_with_a_run(
    words: list[str], message: str, run: Path, fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    assert message in fails(*words)


def test_two_processes_on_one_run(run: Path, fails: Fails, call: Cli) -> None:
    hold = "import fcntl, os, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
    hold += "print(os.getpid(), file=f, flush=True); print('held', flush=True); sys.stdin.read()"
    command, pipe = [sys.executable, "-c", hold, str(run / ".lock")], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        for words in (["distill", run], ["evaluate", run], ["report", run], ["pretrain", "--out", run]):
            assert f"{run}: process {other.pid} is using this run; wait for it" in fails(*words)
        other.kill()
    call("distill", run)  # the lock went with the process


def test_one_run_held_twice_by_one_process(run: Path) -> None:
    recipe = load_recipe(run / "recipe.yaml")
    with working_on(run, recipe), pytest.raises(UserError, match="is using this run"), working_on(run, recipe):
        pass


def test_ctrl_c_outside_of_training(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("restill.runs.draw_images.save_image", interrupted)
    assert cli._run_app(["sample", str(run), "--out", str(tmp_path / "s")]) == 130
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("restill: interrupted; ")


def test_what_a_killed_process_left_is_cleared(run: Path, call: Cli, tmp_path: Path) -> None:
    for folder in (run, run / "teacher", run / "student", run / "samples"):
        (folder / ".model.safetensors.12345.tmp").write_text("half")
    call("distill", run)
    assert not [name for name in contents(run) if "tmp" in name]
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".000000.png.12345.tmp").write_text("half")
    call("sample", run, "-n", 1, "--out", tmp_path / "s")
    assert sorted(contents(tmp_path / "s")) == ["000000.png", "grid.png"]


def test_stages_in_the_wrong_order(store: Path, call: Cli, fails: Fails, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with working_on(run, load_recipe("tiny-noise", [*SETTINGS, f"data.source={store}", "data.content=store"])) as made:
        made.store.symlink_to(store)
    assert "has no trained teacher yet; run `restill pretrain` first" in fails("distill", run)
    assert "has no trained network to evaluate yet" in fails("evaluate", run)
    assert "has no student yet; run `restill distill`" in fails("sample", run, "--out", tmp_path / "s")
    assert "metrics.json: no such file; run `restill evaluate" in fails("report", run)


@contextmanager
def other(path: Path) -> Iterator[None]:
    data = path.read_bytes()
    yield
    path.write_bytes(data)


def test_checkpoints_that_do_not_fit(run: Path, fails: Fails, tmp_path: Path) -> None:
    model, config = run / "student" / "model.safetensors", run / "student" / "config.json"
    words = ["sample", run, "--out", tmp_path / "s"]
    tensors, data = load_state(model)
    name = next(name for name, value in tensors.items() if value.ndim == 4)
    with other(model):
        save_state(model, {**tensors, name: torch.zeros(2, 2, 3, 3)}, data)
        line = fails(*words)
        assert f"{model}: the checkpoint's tensor {name} has shape [2, 2, 3, 3], but the network needs" in line
        save_state(model, {k: v for k, v in tensors.items() if k != name}, data)
        assert f"{model}: the checkpoint lacks the tensor {name}" in fails(*words)
        save_state(model, {**tensors, "more": torch.zeros(1)}, data)
        assert f"{model}: the checkpoint holds the tensor more" in fails(*words)
    with other(model):
        model.write_bytes(model.read_bytes()[:-100])
        assert f"{model}: is not a complete checkpoint of restill" in fails(*words)
        model.write_bytes(b"")
        assert f"{model}: is not a complete checkpoint of restill" in fails(*words)
    for key, value in {"kwargs": {"nonsense": 1}, "cls": "UNet", "shape": None, "format": 2, "more": 1}.items():
        with other(config):
            config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))
            assert f"{config}: " in fails(*words)
    with other(config):
        config.write_text("{")
        assert f"{config}: is not readable JSON" in fails(*words)


def test_a_truncated_training_state(run: Path, fails: Fails) -> None:
    state = run / "student" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    assert f"{state}: is not a complete checkpoint of restill" in fails("distill", run)


def test_a_state_of_another_network(run: Path, finished_run: Path, fails: Fails) -> None:
    state = run / "student" / "state.safetensors"
    tensors, data = load_state(state)
    name = next(name for name, value in tensors.items() if value.ndim == 4)
    save_state(state, {**tensors, name: torch.zeros(3, 3, 3, 3)}, {**data, "step": 1})
    line = fails("distill", run)
    assert f"{state}: the checkpoint's tensor" in line and "has shape [3, 3, 3, 3]" in line


def test_a_mistake_leaves_room_for_the_right_command(call: Cli, fails: Fails, tmp_path: Path) -> None:
    folder = pngs(tmp_path / "images", 20)
    words = ["run", "tiny-noise", "--out", tmp_path / "run", *settings()]
    fails(*words, "--set", f"data.source={tmp_path / 'imgaes'}")
    call(*words, "--set", f"data.source={folder}")
    assert (tmp_path / "run" / "report.html").exists()


def test_bf16_from_end_to_end(call: Cli, tmp_path: Path) -> None:
    folder, run = pngs(tmp_path / "images", 20), tmp_path / "run"
    learned = settings(f"data.source={folder}", "student.generator.lr=1e-3")  # or precision would not show in 8 bits
    call("run", "tiny-noise", "--out", run, "--precision", "bf16", *learned)
    tensors, _ = load_state(run / "student" / "state.safetensors")
    assert {value.dtype for name, value in tensors.items() if name.startswith("ema/")} == {torch.float32}
    drawn = {}
    for precision in ("fp32", "bf16"):
        call("sample", run, "-n", 2, "--out", tmp_path / precision, "--precision", precision)
        drawn[precision] = (tmp_path / precision / "000001.png").read_bytes()
    assert drawn["fp32"] != drawn["bf16"]  # precision is how a run is worked on, not what it is


# a full disk


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Writing more than `size` bytes to a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_while_a_store_is_written(fails: Fails, tmp_path: Path) -> None:
    np.save(tmp_path / "scans.npy", images(60)[:, 0])
    for words in (
        ["import", tmp_path / "scans.npy", "--sigma-n", 9, "--out", tmp_path / "y"],
        ["corrupt", tmp_path / "scans.npy", "--sigma-n", 0.1, "--out", tmp_path / "y", "--reference", tmp_path / "x"],
        ["run", "tiny-noise", *settings(f"data.source={tmp_path / 'scans.npy'}"), "--out", tmp_path / "run"],
    ):
        with files_up_to(8000):
            assert "cannot be written (File too large)" in fails(*words)


def test_a_full_disk_while_training_keeps_the_last_checkpoint(
    run: Path, call: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_state(run / "student" / "state.safetensors")
    shutil.rmtree(run / "student")
    (run / "metrics.json").unlink()
    # continue from a real checkpoint in the middle
    state = run / "student" / "state.safetensors"
    with files_up_to(1 << 30):
        call("distill", run, "--set", "execution.checkpoint_every_s=1e-9")
    tensors, data = load_state(state)
    assert data == whole[1] and all(torch.equal(tensors[k], v) for k, v in whole[0].items())
    save_state(state, tensors, {**data, "step": 2})
    before = contents(run)
    with files_up_to(state.stat().st_size - 1000):
        assert cli._run_app(["distill", str(run)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert f"{state}: cannot be written (File too large); the old file, if any, is unchanged" in captured.err
    after = contents(run)
    kept = {name for name in before if before[name] == after.get(name)}
    assert "student/state.safetensors" in kept and before.keys() == after.keys()
    call("distill", run)
    assert load_state_data(state)["step"] == 3


def test_a_full_disk_while_the_log_is_written(run: Path) -> None:
    opened = Run(run, load_recipe(run))
    opened.append_log({"stage": "teacher", "step": 1})
    rows = opened.read_log()
    with files_up_to(opened.log.stat().st_size + 10), pytest.raises(UserError, match=r"log.jsonl: cannot be written"):
        opened.append_log({"stage": "teacher", "step": 2})
    assert opened.read_log() == rows  # the half row does not count


def test_a_full_disk_in_earnest(run: Path, tmp_path: Path) -> None:
    """A file system of a few hundred kilobytes, where that can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        (disk / "state.safetensors").write_bytes(b"before")
        tensors, data = load_state(run / "student" / "state.safetensors")
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
            save_state(disk / "state.safetensors", tensors, data)
        assert contents(disk) == {"state.safetensors": hashlib.sha256(b"before").hexdigest()}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# good data of every kind


def test_importing_what_people_have(call: Cli, tmp_path: Path) -> None:
    pngs(tmp_path / "rgb", 12)
    (tmp_path / "grey16").mkdir()
    wide = images(12)[:, 0].astype(np.uint16) * 16
    for i, image in enumerate(wide):
        Image.fromarray(image).save(tmp_path / "grey16" / f"{i:03d}.png")
    rng = np.random.default_rng(0)
    two = rng.normal(500, 100, (12, 2, 12, 20)).astype(np.float32)
    np.save(tmp_path / "two.npy", two)
    with zipfile.ZipFile(tmp_path / "rgb.zip", "w") as archive:
        for file in sorted((tmp_path / "rgb").iterdir()):
            archive.write(file, f"in/{file.name}")
    for name, shape, values in [
        ("rgb", (3, 10, 10), images(12, (3, 10, 10))),
        ("grey16", (1, 8, 8), wide[:, None]),
        ("two.npy", (2, 12, 20), two),
        ("rgb.zip", (3, 10, 10), images(12, (3, 10, 10))),
    ]:
        out = tmp_path / f"store-{name}"
        sentence = call("import", tmp_path / name, "--sigma-n", 9, "--out", out).out
        assert f"12 measurements of shape {list(shape)}; sigma_n 9 in the units of the files" in sentence
        store = open_store(out)
        np.testing.assert_allclose(store.to_physical(store.batch(torch.arange(12)).y), values, rtol=1e-5, atol=1e-3)
        assert store.sigma_n[0].item() * store.manifest.normalisation.scale == pytest.approx(9)
        text = call("info", out).out
        assert f"12 of shape {list(shape)}" in text and "in the files' units 9" in text and "█" in text


def test_one_level_per_image_and_a_histogram(call: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "scans.npy", images(20)[:, 0].astype(np.float32))
    levels = np.linspace(1, 39, 20)
    (tmp_path / "levels.txt").write_text("\n".join(map(str, levels)))
    words = ["--sigma-n", tmp_path / "levels.txt", "--out", tmp_path / "y", "--range", "0,255"]
    call("import", tmp_path / "scans.npy", *words)
    np.testing.assert_allclose(open_store(tmp_path / "y").sigma_n * 127.5, levels, rtol=1e-5)
    lines = [line for line in call("info", tmp_path / "y").out.splitlines() if "█" in line]
    assert len(lines) == 10 and all(line.endswith(" 2") for line in lines)


def test_a_share_of_clean_samples(call: Cli, tmp_path: Path) -> None:
    folder = pngs(tmp_path / "images", 200, (1, 4, 4))
    words = ["corrupt", folder, "--sigma-n", 0.5, "--clean-fraction", 0.3, "--reference", tmp_path / "x", "--seed", 1]
    call(*words, "--out", tmp_path / "y")
    store, clean = open_store(tmp_path / "y"), open_reference(tmp_path / "x")
    everything = torch.arange(200)
    exact = (store.batch(everything).y == clean.images(everything)).flatten(1).all(1)
    assert torch.equal(exact, store.sigma_n == 0) and abs(int(exact.sum()) - 60) < 5 * 6.5  # binomial: 60 +- 6.5
    lines = [line for line in call("info", tmp_path / "y").out.splitlines() if "█" in line]
    assert len(lines) == 2 and lines[0].split()[0] == "0" and lines[1].split()[0] == "0.5"


def test_measurements_stage_by_stage_with_no_clean_image(call: Cli, tmp_path: Path) -> None:
    """Two channels of 12x20 pixels, 16-bit range: oblong images through everything, and back into physical units."""
    clean = images(40, (2, 12, 20)).astype(np.float32) * 4 + 100
    noisy = clean + 40 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    np.save(tmp_path / "scans.npy", noisy)
    run, store = tmp_path / "run", tmp_path / "y"
    call("import", tmp_path / "scans.npy", "--sigma-n", 40, "--out", store)
    text = call("pretrain", store, "--recipe", "tiny-noise", "--out", run, *settings()).out
    assert f"next `restill distill {run}`" in text and (run / "store").resolve() == store
    model = (run / "teacher" / "model.safetensors").read_bytes()
    call("pretrain", "--out", run)  # done already
    assert (run / "teacher" / "model.safetensors").read_bytes() == model
    assert "restill evaluate" in call("distill", run, "--set", "student.loss=dmd").out
    assert load_recipe(run).student.loss.kind == "dmd"

    out = call("evaluate", run).out
    results = json.loads((run / "metrics.json").read_text())["results"]
    assert {r["reference"] for r in results} == {"measurements"} and len(results) == 3 * 5 and "student" in out
    call("report", run)
    assert "data:image/png" in (run / "report.html").read_text()

    call("sample", run, "-n", 5, "--out", tmp_path / "samples")
    names = sorted(contents(tmp_path / "samples"))
    assert names == [*(f"{k:06d}.npy" for k in range(5)), "grid.png"]  # two channels are no picture
    drawn = np.stack([np.load(tmp_path / "samples" / f"{k:06d}.npy") for k in range(5)])
    assert drawn.shape == (5, 2, 12, 20) and drawn.dtype == np.float32
    assert -1500 < drawn.min() < drawn.max() < 3000 and np.ptp(drawn) > 50  # the units of the files, not [-1, 1]


def test_a_reference_given_to_evaluate(call: Cli, fails: Fails, tmp_path: Path) -> None:
    folder, run = pngs(tmp_path / "images", 30, (1, 8, 8)), tmp_path / "run"
    for seed, name in enumerate(("y", "other")):
        words = ["--sigma-n", 0.2, "--seed", seed, "--out", tmp_path / name, "--reference", tmp_path / f"{name}-clean"]
        call("corrupt", folder, *words)
    np.save(tmp_path / "large.npy", images(10, (1, 9, 9))[:, 0])
    large = tmp_path / "large-clean"
    call("corrupt", tmp_path / "large.npy", "--sigma-n", 0.2, "--out", tmp_path / "large", "--reference", large)
    call("pretrain", tmp_path / "y", "--recipe", "tiny-noise", "--out", run, *settings())
    call("evaluate", run, "--reference", tmp_path / "y-clean")
    results = json.loads((run / "metrics.json").read_text())["results"]
    assert {(r["subject"], r["reference"]) for r in results} == {
        ("measurements", "clean"),
        *((subject, ref) for subject in ("teacher-full", "teacher-truncated") for ref in ("clean", "measurements")),
    }
    assert "large-clean: holds images [1, 9, 9]" in fails("evaluate", run, "--reference", large)
    call("report", run)


def test_a_run_of_measurements(call: Cli, tmp_path: Path) -> None:
    folder = pngs(tmp_path / "images", 24, (1, 8, 8))
    more = [f"data.source={folder}", "data.content=measurements", "data.resize=null", "corruption.sigma_n=12.75"]
    call("run", "tiny-noise", "--out", tmp_path / "run", *settings(*more))
    store = open_store(tmp_path / "run" / "store")
    assert store.sigma_n[0].item() == pytest.approx(0.1) and not (tmp_path / "run" / "reference").exists()
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())["results"]
    assert {r["reference"] for r in results} == {"measurements"}
    assert "noise 0.1" in call("info", tmp_path / "run").out


def test_a_run_on_a_store_takes_its_corruption(store: Path, call: Cli, tmp_path: Path) -> None:
    text = RECIPE.replace("source: digits", f"source: {store}, content: store").replace(
        "corruption: {kind: noise, sigma_n: 0.4}\n", ""
    )
    (tmp_path / "mine.yaml").write_text(text)
    words = ["run", tmp_path / "mine.yaml", "--out", tmp_path / "run", *settings()]
    call(*words)
    assert load_recipe(tmp_path / "run").build_corruption().sigma_n == 0.2
    call(*words)


def test_classes(call: Cli, fails: Fails, tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        pngs(tmp_path / "images" / name, 12, (1, 8, 8))
    run = tmp_path / "run"
    more = settings(f"data.source={tmp_path / 'images'}", "network.class_conditional=true")
    call("run", "tiny-noise", "--out", run, *more)
    config: dict[str, Any] = json.loads((run / "student" / "config.json").read_text())
    assert config["num_classes"] == 2 and config["classes"] == ["cats", "dogs"]
    assert config["kwargs"]["label_dim"] == 2
    call("sample", run, "-n", 3, "--out", tmp_path / "samples")


def test_classes_that_are_not_there(call: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pngs(tmp_path / "images", 12, (1, 8, 8))
    more = settings(f"data.source={folder}", "network.class_conditional=true")
    assert cli._run_app(["run", "tiny-noise", "--out", str(tmp_path / "run"), *more]) == 2
    assert "store: has no labels; set network.class_conditional to false" in capsys.readouterr().err
    call("run", "tiny-noise", "--out", tmp_path / "run", *settings(f"data.source={folder}"))  # teacher had not begun
