"""The run directory: what lies where, who writes it, and its log."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.files import cannot_write, remove, remove_temporaries, write_text
from ..core.locks import holder, take
from ..core.paths import check_run
from ..core.reading import parse_json, read_text
from .linked_store import linked_store
from .recipe_files import Recipe, load_recipe, save_recipe

_LOCK = ".lock"
MADE_FROM = "made-from.json"  # in a stage's folder (provenance.py)
_LEFT_OVER = re.compile(r"\.lock|\.recipe\.yaml(\.\d+)?\.tmp")  # by a process that was killed at its start

# A section may still change as long as no stage that depends on it has begun.
_NEEDED_BY = {
    "name": "store",
    "seed": "store",
    "data": "store",
    "corruption": "store",
    "network": "teacher",
    "objective": "teacher",
    "teacher": "teacher",
    "refine": "refined",
    "student": "student",
    "baselines": "baseline",
}


class Run:
    """A run directory with its complete, checked recipe, and the places in it.

    Attributes:
        reference: the clean images of a benchmark, which `evaluate` alone opens.
        log: one JSON object per line.
        examples: clean images and restored measurements that `evaluate` leaves for the report.
        reconstructions: store of L1-wavelet reconstructions of the measurements, where the recipe asks for baselines.
        snapshots: averages of the student's weights during its distillation, from which `restill select` chooses.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self.recipe = path, recipe
        self.reference = path / "reference"
        if recipe.data.reference is not None:
            self.reference = Path(recipe.data.reference)
        self.log, self.metrics, self.report = path / "log.jsonl", path / "metrics.json", path / "report.html"
        self.examples = path / "examples.safetensors"
        self.reconstructions, self.snapshots = path / "baseline" / "store", path / "student" / "snapshots"

    @property
    def store(self) -> Path:
        """The measurements, in the run or where the run says that they lie."""
        return linked_store(
            self.path / "store", self.recipe.data.source if self.recipe.data.content == "store" else None
        )

    def stage(self, name: str) -> Path:
        """Folder of the stage `teacher`, `student` or `baseline`."""
        return self.path / name

    def state(self, stage: str) -> Path:
        """Training state from which a stage continues."""
        return self.path / stage / "state.safetensors"

    def trained(self, stage: str) -> bool:
        """Whether a stage has a network to use."""
        return all((self.stage(stage) / name).exists() for name in ("model.safetensors", "config.json"))

    def begun(self, stage: str) -> bool:
        """Whether a stage has written anything but the note of what it is made from."""
        if stage == "store":
            return self.store.is_dir()
        folder = self.stage(stage)
        return folder.is_dir() and any(not re.match(rf"\.|{MADE_FROM}$", file.name) for file in folder.iterdir())

    def append_log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the log. Raises UserError if the disk is full."""
        stamped = {**row, "time": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        try:
            with self.log.open("ab+") as file:
                cut = False
                if file.tell():  # a kill may have cut off the last row
                    file.seek(-1, os.SEEK_END)
                    cut = file.read() != b"\n"
                file.write((b"\n" if cut else b"") + json.dumps(stamped).encode() + b"\n")
        except OSError as error:
            raise cannot_write(self.log, error, "the same command continues from the last checkpoint") from error

    def read_log(self) -> list[dict[str, Any]]:
        """All whole rows of the log; a kill may have cut one off. Raises UserError for a line that is no row."""
        rows = []
        for number, line in enumerate(read_text(self.log).splitlines() if self.log.exists() else (), 1):
            try:
                row = parse_json(line)
            except ValueError:
                continue
            if not isinstance(row, dict) or not isinstance(row.get("step", 0), (int, float)):
                raise UserError(f"{self.log}: line {number} is no row of a log (keys and values, step a number)")
            rows.append(row)
        return rows

    def forget_log(self, stage: str, after: int) -> None:
        """Drop rows of a stage beyond a step: a continued training writes them again."""
        rows = [row for row in self.read_log() if row.get("stage") != stage or row.get("step", 0) <= after]
        if self.log.exists():
            write_text(self.log, "".join(json.dumps(row) + "\n" for row in rows))


def open_run(path: Path, overrides: Sequence[str] = ()) -> Run:
    """An existing run, some keys of its recipe changed. Raises UserError if `path` holds none."""
    check_run(path)
    return Run(path, load_recipe(path / "recipe.yaml", overrides))


def amended(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of an existing run with some keys changed. Raises UserError if `path` holds no run."""
    return open_run(path, overrides).recipe


@contextmanager
def working_on(path: Path, recipe: Recipe) -> Iterator[Run]:
    """A new run, or an existing one that the recipe continues, held against a second process.

    A new run whose store could not be made leaves nothing behind.

    Raises:
        UserError: `path` holds a different recipe's run, which is never overwritten, or something that is no run, or
            a link; another process works on it; the recipe's device is not there.
    """
    recipe.execution.place()
    _check_continues(path, recipe)
    run, new, new_folder = Run(path, recipe), not (path / "recipe.yaml").exists(), not path.exists()
    try:
        with _sole_writer(path):
            _check_continues(path, recipe)  # again, for another process may have come first
            for folder in (path, run.stage("teacher"), run.stage("student"), run.snapshots, path / "samples"):
                remove_temporaries(folder)
            try:
                save_recipe(path / "recipe.yaml", recipe)
                yield run
            finally:
                if new and not run.begun("store"):
                    with contextlib.suppress(OSError):
                        remove(path / "recipe.yaml")
    finally:
        if new_folder and not run.begun("store"):
            with contextlib.suppress(OSError):  # where it holds anything, it stays
                path.rmdir()


def _check_continues(path: Path, recipe: Recipe) -> None:
    """Raises UserError unless `recipe` may be worked on at `path`; changes nothing."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file; a run is a folder")
    _check_no_link(path)
    if (path / "recipe.yaml").exists():
        run = open_run(path)
        for key in recipe.differences(run.recipe):
            stage = _NEEDED_BY.get(key.split(".")[0])
            if stage is not None and run.begun(stage):
                raise UserError(
                    f"{path}: holds a run of another recipe ({key} is {_brief(run.recipe.value(key))} there and "
                    f"{_brief(recipe.value(key))} here); choose another folder: a run is never overwritten"
                )
    elif path.exists() and not all(_LEFT_OVER.fullmatch(file.name) for file in path.iterdir()):
        raise UserError(f"{path}: is a non-empty folder without a run; choose another folder")


def _check_no_link(path: Path) -> None:
    """Raises UserError if a link may lead what is written or removed out of the run; its store is only read."""
    for folder, folders, files in os.walk(path):
        for name in [*folders, *files]:
            entry = Path(folder) / name
            if entry.is_symlink() and entry not in (path / "store", path / ".store.tmp"):
                raise UserError(
                    f"{entry}: is a link, and restill does not write or remove through one; put what it leads to in "
                    "its place, or remove it"
                )
        if Path(folder) == path and "store" in folders:
            folders.remove("store")


def _brief(value: Any) -> str:
    """A value of a recipe in one line: masks and kernels in it are long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:40]}... ({len(text):,} characters)"


@contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Raises UserError if another process works on the run. The operating system ends the lock with the process."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = take(path / _LOCK)
    except OSError as error:
        raise cannot_write(path, error, "nothing was changed") from error
    if lock is None:
        raise UserError(f"{path}: process {holder(path / _LOCK) or '?'} is using this run; wait for it")
    with lock:
        with contextlib.suppress(OSError):  # on a full disk the lock holds, only its owner is not named
            lock.note(str(os.getpid()))
        yield
