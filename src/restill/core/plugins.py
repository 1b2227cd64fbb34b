"""Plug-ins: Python files that a person names on the command line, and installed packages.

A plug-in defines classes of restill's families (`class MyLoss(DistillationLoss, kind="my-loss")`), which register
themselves. A file runs because a person named it, `--plugin my_losses.py`; what is loaded (a recipe, a store, a network
folder) holds names alone. A package says in its metadata that it is a plug-in:

    [project.entry-points."restill.plugins"]
    my-losses = "my_package.losses"

It is imported when a kind is asked for that restill does not know, or by its name, `--plugin my-losses`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import tokenize
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from .errors import UserCodeError, UserError

GROUP = "restill.plugins"
_PREFIX = "restill_plugin_"  # of the names of modules
_LOADED: dict[str, ModuleType | None] = {}  # by name
_FINGERPRINTS: dict[str, str] = {}
_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)


def run_file(path: str | Path) -> ModuleType:
    """Run a Python file of the user's; from now on it is the plug-in of its name without `.py`.

    Raises:
        UserError: no such file, or not a Python file.
        UserCodeError: it raises; with its own traceback.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; --plugin takes a Python file or the name of an installed plug-in")
    spec = importlib.util.spec_from_file_location(f"{_PREFIX}{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: --plugin takes a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses of it look it up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise UserCodeError(f"{path}: raises {type(error).__name__}: {' '.join(str(error).split())}") from error
    _LOADED[path.stem], _FINGERPRINTS[path.stem] = module, _of_code(path)
    return module


def load_installed(name: str | None = None) -> bool:
    """Import the installed plug-in of a name, or all; returns whether there was one that had not been imported.

    Raises:
        UserCodeError: it raises; with its own traceback.
    """
    fresh = [entry for entry in _installed(name) if entry.name not in _LOADED]
    for entry in fresh:
        _LOADED[entry.name] = None
        try:
            entry.load()
        except (Exception, SystemExit) as error:
            del _LOADED[entry.name]
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserCodeError(f"installed plug-in {entry.name!r} ({entry.value}): raises {reason}") from error
    return bool(fresh)


def require(names: Iterable[str]) -> None:
    """Check that the plug-ins of these names are loaded; installed ones are imported.

    Raises:
        UserError: one is neither loaded nor installed, or is a path instead of a name.
    """
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name) or name.endswith(".py"):
            stem = Path(name).stem
            raise UserError(
                f"plugins: {name!r} must be a name, not a path; write {stem!r} and give the file with --plugin"
            )
        if name not in _LOADED and not load_installed(name):
            raise UserError(f"plugins: {name!r} is not loaded; name its file with --plugin {name}.py")


def fingerprint_of(name: str) -> str | None:
    """Hex digest of the code of a plug-in as it was loaded, comments and blank lines apart; of an installed one, its
    version. None if it is not loaded.
    """
    if name not in _LOADED or name in _FINGERPRINTS:
        return _FINGERPRINTS.get(name)
    packages = [entry.dist for entry in _installed(name) if entry.dist is not None]
    return f"{packages[0].name} {packages[0].version}" if packages else None


def defined_in(kind: type) -> str | None:
    """The plug-in that defines a class; None if it is restill's own."""
    home = kind.__module__
    if home.startswith(_PREFIX):
        return home.removeprefix(_PREFIX)
    for entry in (entry for name in _LOADED for entry in _installed(name)):
        if home.split(".")[0] == entry.module.split(".")[0]:
            return entry.name
    return None


def _of_code(path: Path) -> str:
    try:
        with path.open("rb") as file:
            parts = [(part.type, part.string) for part in tokenize.tokenize(file.readline) if part.type not in _NO_CODE]
        code = "\n".join(str(kind) if kind in (tokenize.INDENT, tokenize.DEDENT) else text for kind, text in parts)
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):
        code = path.read_bytes().hex()
    return hashlib.sha256(code.encode()).hexdigest()


def file_in(error: BaseException) -> str | None:
    """The file of a plug-in in which an error arose, or that called what failed; None if there is none."""
    names, found, frame = {f"{_PREFIX}{name}" for name in _LOADED}, None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__") in names:
            found = frame.tb_frame.f_code.co_filename
        frame = frame.tb_next
    return found


def from_files(names: Iterable[str]) -> list[str]:
    """Those of the plug-ins that were loaded from a file; installed ones need no option on the command line."""
    return [name for name in names if _LOADED.get(name) is not None]


def _installed(name: str | None) -> Iterable[EntryPoint]:
    return entry_points(group=GROUP) if name is None else entry_points(group=GROUP, name=name)
