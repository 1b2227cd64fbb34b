"""Ctrl-C at any moment ends in one line and exit code 130, and output never fails for its characters."""

from __future__ import annotations

import builtins
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import restill.cli.app
from restill.cli import main
from restill.cli.plain import plain_streams
from restill.core import interruption
from restill.core.locks import take
from tiny import images

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork")
BEFORE = "restill: interrupted before anything was written\n"
AFTER = "restill: interrupted; the same command continues from the last checkpoint\n"


def forked(tmp_path: Path, words: list[str], module: str = "", file: str = "") -> tuple[int, str]:
    """Exit code and stderr of a command that gets Ctrl-C when it imports a module, or opens a file of a name."""
    output = tmp_path / "output"
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output.read_text()
    try:
        real = builtins.__import__

        def importing(name: str, *rest: Any) -> Any:
            if module and name == module:
                os.kill(os.getpid(), signal.SIGINT)
            return real(name, *rest)

        def opening(event: str, arguments: tuple[Any, ...]) -> None:
            if file and event == "open" and Path(str(arguments[0])).name == file:
                os.kill(os.getpid(), signal.SIGINT)

        with output.open("w") as stream:
            os.dup2(stream.fileno(), 2)
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.argv = ["restill", *words]
            builtins.__import__ = importing
            sys.addaudithook(opening)
            main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 99)
    finally:
        os._exit(98)


@pytest.mark.parametrize("module", ["app", "runs.describe", "rich.console"])
def test_ctrl_c_during_the_imports(tmp_path: Path, module: str) -> None:
    assert forked(tmp_path, ["info", "digits-noise"], module) == (130, BEFORE)


def test_ctrl_c_once_work_has_begun(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images(40))
    words = ["corrupt", str(tmp_path / "images.npy"), "--sigma-n", "0.1", "--out", str(tmp_path / "y")]
    assert forked(tmp_path, words, file="shard-00000.safetensors") == (130, AFTER)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["images.npy", "output"]


def test_an_import_that_swallows_ctrl_c_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any work the process ends at once; afterwards whatever exception comes of it is an interruption."""

    def broken(*_: object) -> None:
        with pytest.raises(KeyboardInterrupt):
            interruption._interrupted(signal.SIGINT, None)
        raise ImportError("cannot import name 'half' from partially initialized module")

    monkeypatch.setattr(interruption._State, "came", False)
    monkeypatch.setattr("restill.runs.describe.describe", broken)
    assert restill.cli.app._run_app(["info", "digits-noise"]) == 130
    assert capsys.readouterr().err == AFTER


def test_writing_makes_ctrl_c_an_exception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption._State, "at_once", True)
    with take(tmp_path / "lock") or pytest.fail():
        assert not interruption._State.at_once


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    """Characters of restill's own become plain ones; those of a path stay exact, as escape sequences."""
    output = tmp_path / "output"
    with output.open("w", encoding=encoding) as file, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", file)
        plain_streams()
        sys.stdout.write("Fréchet −1 ±2 ▁▅█ 日本 \udcff café")
    plain = {"ascii": "Frechet -1 +-2 _+# ", "latin-1": "Fréchet -1 ±2 _+# ", "utf-8": "Fréchet −1 ±2 ▁▅█ "}
    path = "日本 " if encoding == "utf-8" else "\\u65e5\\u672c "
    word = "caf\\xe9" if encoding == "ascii" else "café"
    assert output.read_text(encoding=encoding) == f"{plain[encoding]}{path}\\udcff {word}"


def test_a_command_on_an_ascii_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "Müller's scans — café 日本"
    folder.mkdir()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "restill", "info", "digits-noise", "--keys"]
    done = subprocess.run(words, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout.decode("ascii") and done.stderr == b""
    done = subprocess.run([*words[:-2], str(folder)], env=environment, capture_output=True, check=False)
    assert done.returncode == 2 and done.stderr.decode("ascii").count("\n") == 1
