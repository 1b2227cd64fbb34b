"""The run directory: what lies where, who writes it, and its log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..config import Recipe, load_recipe, save_recipe
from ..errors import UserError
from ..files import write_text

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock; two writers are then not noticed
    fcntl = None  # type: ignore[assignment]

# A section may still change as long as no stage that depends on it has begun.
_NEEDED_BY = {
    "name": "store",
    "seed": "store",
    "data": "store",
    "corruption": "store",
    "network": "teacher",
    "objective": "teacher",
    "teacher": "teacher",
    "student": "student",
}


class Run:
    """A run directory and its recipe.

    Attributes:
        path: the directory.
        recipe: complete and checked.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self.recipe = path, recipe

    @property
    def store(self) -> Path:
        """The measurements, or a link to them."""
        return self.path / "store"

    @property
    def reference(self) -> Path:
        """The clean images of a benchmark, which `evaluate` alone opens."""
        return self.path / "reference" if self.recipe.data.reference is None else Path(self.recipe.data.reference)

    @property
    def log(self) -> Path:
        """One JSON object per line."""
        return self.path / "log.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def stage(self, name: str) -> Path:
        """Folder of the stage `teacher` or `student`."""
        return self.path / name

    def state(self, stage: str) -> Path:
        """Training state from which a stage continues."""
        return self.path / stage / "state.safetensors"

    def begun(self, stage: str) -> bool:
        """Whether a stage has written anything."""
        return self.store.exists() if stage == "store" else self.stage(stage).exists()

    def append_log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**row, "time": datetime.now(timezone.utc).isoformat(timespec="seconds")}) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """All whole rows of the log; the last one may be cut off by a kill."""
        rows = []
        if self.log.exists():
            for line in self.log.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return rows

    def forget_log(self, stage: str, after: int) -> None:
        """Drop rows of a stage beyond a step: a continued training writes them again."""
        rows = [row for row in self.read_log() if row.get("stage") != stage or row.get("step", 0) <= after]
        if self.log.exists():
            write_text(self.log, "".join(json.dumps(row) + "\n" for row in rows))


def open_run(path: Path) -> Run:
    """An existing run. Raises UserError if `path` holds none."""
    if not (path / "recipe.yaml").is_file():
        raise UserError(f"{path}: is not a run (it has no recipe.yaml); `restill run` makes one")
    return Run(path, load_recipe(path))


def create_run(path: Path, recipe: Recipe) -> Run:
    """A new run, or an existing one that the recipe continues.

    Raises:
        UserError: `path` holds a different recipe's run, which is never overwritten, or something that is no run.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file; give --out a folder")
    if (path / "recipe.yaml").exists():
        run = open_run(path)
        for key in recipe.differences(run.recipe):
            stage = _NEEDED_BY.get(key.split(".")[0])
            if stage is not None and (stage == "store" or run.begun(stage)):
                raise UserError(
                    f"{path}: holds a run of another recipe ({key} is {run.recipe.value(key)!r} there and "
                    f"{recipe.value(key)!r} here); choose another --out"
                )
    elif path.exists() and any(path.iterdir()):
        raise UserError(f"{path}: is a folder that is not empty and holds no run; choose another --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made ({error.strerror})") from error
    save_recipe(path / "recipe.yaml", recipe)
    return Run(path, recipe)


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold the run directory against a second process. Raises UserError if another one works on it.

    The lock is the operating system's: it ends with the process, however that ends.
    """
    with (path / ".lock").open("a+") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise UserError(f"{path}: process {file.read().strip() or '?'} is working on this run") from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield
