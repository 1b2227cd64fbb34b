"""Plug-ins: files named on the command line, and installed packages; nothing that is loaded names a file to run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from restill.core import plugins
from restill.core.errors import UserCodeError, UserError
from restill.core.kinds import Described, described, kinds, of_kind
from restill.core.plugins import from_files, load_installed, require, run_file

FAMILY = "from test_plugins import Colour\n"


class Colour(Described, family="test-colour"):
    """A family for plug-ins to add to."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plug-in is loaded before, and none stays."""
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(Colour, "_members", {})
    monkeypatch.setitem(sys.modules, "test_plugins", sys.modules[__name__])


def install(site: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    """What pip leaves of a package that says it is a plug-in: a module and its metadata."""
    (site / f"{name}_package.py").write_text(code)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[restill.plugins]\n{name} = {name}_package\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, f"{name}_package", raising=False)


def test_a_file_registers_its_classes(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FAMILY + "class Red(Colour, kind='red'):\n    depth: int = 1\n")
    with pytest.raises(UserError, match="'red' is not a known kind"):
        of_kind(Colour, "red")
    with pytest.raises(UserError, match=r"plugins: 'mine' is not loaded; name its file with --plugin mine\.py"):
        require(["mine"])
    module = run_file(file)
    assert of_kind(Colour, "red") is module.Red
    require(["mine"])
    assert from_files(["mine", "never-loaded"]) == ["mine"]
    assert described(Colour, {"kind": "red", "depth": 3}).model_dump() == {"kind": "red", "depth": 3}


@pytest.mark.parametrize(
    ("name", "code", "error", "message"),
    [
        ("absent.py", None, UserError, "absent.py: no such file; --plugin takes a Python file or the name of an inst"),
        ("notes.txt", "", UserError, "notes.txt: --plugin takes a Python file; its name must end in .py"),
        ("bad.py", "import nowhere_to_be_found", UserCodeError, "bad.py: raises ModuleNotFoundError: No module named"),
        ("bad.py", "raise SystemExit('no\\nthanks')", UserCodeError, "bad.py: raises SystemExit: no thanks"),
        ("bad.py", "def f(:\n", UserCodeError, "bad.py: raises SyntaxError"),
    ],
)
def test_files_that_are_no_plugins(
    tmp_path: Path, name: str, code: str | None, error: type[Exception], message: str
) -> None:
    if code is not None:
        (tmp_path / name).write_text(code)
    with pytest.raises(error) as caught:
        run_file(tmp_path / name)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "restill_plugin_bad" not in sys.modules


@pytest.mark.parametrize(("name", "stem"), [("mine.py", "mine"), ("plugins/mine", "mine"), ("../mine.py", "mine")])
def test_required_plugins_are_names_not_paths(name: str, stem: str) -> None:
    with pytest.raises(UserError, match=f"must be a name, not a path; write '{stem}' and give the file with --plugin"):
        require([name])


def test_an_installed_package_is_imported_when_its_kind_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "restill_test_blue", FAMILY + "class Blue(Colour, kind='blue'): ...\n")
    assert kinds(Colour) == [] and "restill_test_blue_package" not in sys.modules
    assert of_kind(Colour, "blue").kind == "blue" and "restill_test_blue_package" in sys.modules
    assert not load_installed("restill_test_blue")  # once is enough


def test_an_installed_package_is_imported_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "restill_test_green", FAMILY + "class Green(Colour, kind='green'): ...\n")
    require(["restill_test_green"])
    assert kinds(Colour) == ["green"]


def test_an_installed_package_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "restill_test_broken", "raise ValueError('broken')\n")
    with pytest.raises(UserCodeError, match=r"installed plug-in 'restill_test_broken' .* raises ValueError: broken"):
        of_kind(Colour, "blue")
    assert not any(name == "restill_test_broken" for name in plugins._LOADED)
