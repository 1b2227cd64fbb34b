"""Mutation testing with hand-written mutations: each is a subtle bug, and names tests of which one must fail.

    python tests/mutations/driver.py [AREA ...] [--only TEXT]

`AREA.yaml` beside this file is a list of mutations. Each states

    file    a path below src/restill
    old     text that occurs exactly once in that file
    new     what a bug would put in its place
    tests   test files or single tests (`test_x.py::test_y`), relative to tests/, of which at least one must fail
    why     what is wrong then, in a few words

Tools that generate mutations (mutmut, cosmic-ray) change every operator and every number. Most of those are caught at
once or are equivalent, a run of all of them takes a day, and they do not write the bugs that matter: a wrong mask, a
shared seed, a missing factor.

The code and its tests are copied to a temporary folder. Large packages are imported once; each mutation is judged in a
forked process of its own. `tests/test_mutations.py` keeps the lists current.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COPIED = ("src", "tests", "docs", "examples", "bench", "pyproject.toml", "README.md", "Makefile")
PACKAGES = (
    "torch", "numpy", "scipy", "pydantic", "safetensors.torch", "typer", "rich.console", "jinja2", "PIL.Image",
    "matplotlib.figure", "sklearn.datasets", "torchmetrics", "h5py", "pywt",
)  # fmt: skip
OUTCOMES = {0: "survived", 1: "killed", 124: "killed"}  # by the exit code of pytest; 124 ran too long


@dataclass(frozen=True)
class Mutation:
    """One bug that tests must notice."""

    area: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    def apply(self, root: Path) -> str:
        """The text of the file with the bug in it; ValueError where `old` does not occur exactly once."""
        text = self.path(root).read_text(encoding="utf-8")
        if (times := text.count(self.old)) != 1:
            raise ValueError(f"{self.area}: {self.file} has {times} times, not once: {self.old}")
        return text.replace(self.old, self.new)

    def path(self, root: Path) -> Path:
        return root / "src" / "restill" / self.file


def areas(folder: Path = HERE) -> list[str]:
    """Names of all lists."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def mutations(area: str, folder: Path = HERE) -> list[Mutation]:
    """The list of an area, in its order."""
    entries = yaml.safe_load((folder / f"{area}.yaml").read_text(encoding="utf-8"))
    return [Mutation(area=area, **{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


class Tree:
    """A copy of the code and its tests, in which one mutation at a time is made."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (root / name).exists():
                shutil.copy2(root / name, folder / name)

    def judge(self, mutation: Mutation, limit: float) -> tuple[str, str]:
        """Outcome of one mutation and the first test that fails."""
        path = mutation.path(self.folder)
        before, changed = path.read_text(encoding="utf-8"), path.stat().st_mtime
        path.write_text(mutation.apply(self.folder), encoding="utf-8")
        os.utime(path, (changed + 60, changed + 60))  # bytecode of the file before, which has a time, is not used
        try:
            code, text = self.run(mutation.tests, limit)
        finally:
            path.write_text(before, encoding="utf-8")
            os.utime(path, (changed, changed))
        return OUTCOMES.get(code, "broken"), "took too long" if code == 124 else _first_failure(text)

    def run(self, tests: Iterable[str], limit: float, *, keep_bytecode: bool = False) -> tuple[int, str]:
        """Run tests in a forked process: exit code of pytest (124 after `limit` seconds) and what it prints."""
        output = self.folder / "output"
        words = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=line"]
        child = os.fork()
        if child == 0:
            sys.dont_write_bytecode = not keep_bytecode
            os._exit(self._pytest([*words, *(f"tests/{test}" for test in tests)], output))
        return _wait(child, limit), output.read_text(encoding="utf-8", errors="replace")

    def _pytest(self, words: list[str], output: Path) -> int:
        try:
            os.setsid()
            os.chdir(self.folder)
            stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            source = str(self.folder / "src")
            sys.path.insert(0, source)
            os.environ |= {"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"}
            return int(pytest.main(words))
        except BaseException as error:  # a forked process must not return into the caller's code
            print(repr(error), flush=True)
            return 99
        finally:
            sys.stdout.flush()


def _wait(child: int, limit: float) -> int:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


def _first_failure(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0].split(maxsplit=1)[1] if lines else text.strip().splitlines()[-1]


def healthy(listed: list[Mutation], tree: Tree, limit: float) -> bool:
    """Whether all named tests pass without a mutation; otherwise a failure would say nothing."""
    tests = {test for mutation in listed for test in mutation.tests}
    least = sorted(test for test in tests if "::" not in test or test.split("::")[0] not in tests)
    code, text = tree.run(least, limit * len(least), keep_bytecode=True)
    if code:
        print(f"These tests must pass without any mutation.\n{text}", file=sys.stderr)
    return code == 0


def main(words: list[str] | None = None) -> int:
    """Judge mutations and print the score by area; 1 if too few are killed, 2 if tests fail without a mutation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("areas", nargs="*", help="lists to use, without .yaml (default: all)")
    parser.add_argument("--only", default="", help="only mutations whose file, text or reason has this text")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one mutation")
    parser.add_argument("--least", type=float, default=95, help="percent of all that must be killed")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout with src/restill and tests/")
    args = parser.parse_args(words)
    folder = args.root / "tests" / "mutations"
    listed = [m for area in args.areas or areas(folder) for m in mutations(area, folder) if args.only in f"{m}"]
    if args.root == ROOT:
        import_packages()
    with tempfile.TemporaryDirectory() as copy:
        tree = Tree(args.root, Path(copy))
        if not healthy(listed, tree, args.limit):
            return 2
        score: dict[str, list[bool]] = {}
        for mutation in listed:
            outcome, where = tree.judge(mutation, args.limit)
            score.setdefault(mutation.area, []).append(outcome == "killed")
            print(f"{outcome:9}{mutation.area}: {mutation.file}: {mutation.why} [{where}]", flush=True)
    score["all"] = [killed for area in score.values() for killed in area]
    for area, killed in score.items():
        print(f"{area:24}{sum(killed):4} of {len(killed):4} killed  {sum(killed) / max(1, len(killed)):6.1%}")
    return int(100 * sum(score["all"]) < args.least * len(listed))


def import_packages() -> None:
    """Import what most tests need, once for all mutations; whatever is not installed is left out."""
    for package in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)


if __name__ == "__main__":
    raise SystemExit(main())
