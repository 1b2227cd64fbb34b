"""Kill every command at every single operation on files, repeat it, and require the result of an undisturbed one.

    python tests/campaign/crash_points.py --folder DIR [--only NAME ...] [--every K] [--fault kill|full|read-only ...]

A process is forked once everything is imported, so that one point costs what the command itself costs. Operations are
counted by an audit hook of Python (opening for writing, renaming, removing, making folders and links) and by a patched
`os.fsync`. Faults:

- kill: the process ends at the k-th operation; at an fsync also with only half of the file on the disk.
- full: from the k-th operation on, the disk is full: nothing new can be made or synced; removing works.
- read-only: from the k-th operation on, the file system is read-only.

After a kill the same command, and after the other two the same command on a healthy disk, must give the same files,
byte for byte but for times. A full or read-only disk must end a command in one line and exit code 2.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import importlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

import restill.cli.app as cli
from kspace import measured
from tiny import SETTINGS, images

OWN = [f"restill.{name}" for name in ("acquisition", "runs.selecting", "runs.evaluation", "runs.reporting")]
KILLED = 77
TIMEOUT = 120  # seconds, of one command
FAULTS = ("kill", "full", "read-only")
_REMOVES = ("os.remove", "os.rmdir")
_CHANGES = ("os.rename", "os.mkdir", "os.symlink", "os.link", "os.truncate", *_REMOVES)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TIMES = re.compile(r'"(time|created|seconds|images_per_second|images_per_second_std)": (?:"[^"]*"|[^,}\s]*)')


# Operations


@dataclass
class Disk:
    """Counts operations below a folder and lets the `at`-th go wrong; none for 0."""

    folder: Path
    fault: str = "kill"
    at: int = 0
    half: bool = False
    seen: list[str] = field(default_factory=list)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and not isinstance(path, int):
                self.operation("open", path)
        elif event in _CHANGES:
            self.operation(event, arguments[0])

    def sync(self, handle: int) -> None:
        """In place of `os.fsync`."""
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_file():
            self.operation("fsync", path)

    def operation(self, what: str, path: Any) -> None:
        inside = isinstance(path, int) or not os.fspath(path).startswith(os.sep)  # below a folder that is open
        text = str(path) if inside else os.fsdecode(path)
        if not inside and not Path(text).is_relative_to(self.folder):
            return
        self.seen.append(f"{what} {text.removeprefix(f'{self.folder}/')}")
        if not self.at or len(self.seen) < self.at:
            return
        if self.fault == "kill":
            if self.half and what == "fsync":
                os.truncate(text, Path(text).stat().st_size // 2)
            os._exit(KILLED)
        if self.fault == "full" and what not in _REMOVES:
            raise OSError(errno.ENOSPC, "No space left on device", text)
        if self.fault == "read-only":
            raise OSError(errno.EROFS, "Read-only file system", text)


_DISK: list[Disk] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _DISK:
        _DISK[0].audit(event, arguments)


class Done(NamedTuple):
    """How a command ended."""

    code: int
    error: str
    operations: list[str]


def forked(folder: Path, words: list[str], disk: Disk | None = None) -> Done:
    """Run a command in a process of its own, in `folder`."""
    error, seen = folder.with_name("stderr"), folder.with_name("operations")
    child = os.fork()
    if not child:
        try:
            os.chdir(folder)
            signal.alarm(TIMEOUT)
            for number, file in ((1, os.devnull), (2, error)):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            if disk is not None:
                os.fsync = disk.sync  # type: ignore[assignment]
                _DISK.append(disk)
            code = cli._run_app(words)
            _DISK.clear()
            sys.stderr.flush()
            seen.write_text("\n".join([] if disk is None else disk.seen))
            os._exit(code)
        finally:
            os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = error.read_text() if error.exists() else ""
    return Done(code, text, seen.read_text().splitlines() if seen.exists() else [])


# Commands


@dataclass(frozen=True)
class Case:
    """A command, and the commands that come before it; of long ones only each `every`-th operation goes wrong."""

    words: list[str]
    before: tuple[list[str], ...] = ()
    prepare: Callable[[Path], None] = lambda folder: None
    every: int = 1


def settings(*more: str) -> list[str]:
    chosen = [*SETTINGS, "student.snapshots=3", "execution.checkpoint_every_s=0.0001", *more]
    return [word for setting in chosen for word in ("--set", setting)]


def _pictures(folder: Path) -> None:
    np.save(folder / "images.npy", images(24))
    np.save(folder / "others.npy", images(24, seed=5))


def _kspace(folder: Path) -> None:
    np.save(folder / "scan.npy", measured(3, 2))


def _swapped(folder: Path) -> None:
    """Another store in the place of a finished run's."""
    shutil.rmtree(folder / "run" / "store")
    shutil.move(folder / "other", folder / "run" / "store")


def _without_network(folder: Path) -> None:
    (folder / "run" / "student" / "model.safetensors").unlink()


CORRUPT = ["corrupt", "images.npy", "--sigma-n", "0.3", "--out", "y", "--reference", "x"]
STORE = ["corrupt", "images.npy", "--recipe", "tiny-noise", "--out", "y"]
OTHER = ["corrupt", "others.npy", "--recipe", "tiny-noise", "--out", "other"]
PRETRAIN = ["pretrain", "y", "--recipe", "tiny-noise", "--out", "run", *settings()]
DISTILL = ["distill", "run"]
EVALUATE = ["evaluate", "run"]
RUN = ["run", "tiny-noise", "--out", "run", *settings("data.source=images.npy", "data.resize=null")]
MRI = [
    "run", "brain-mri-tiny", "--out", "run",
    *settings("data.source=phantoms", "baselines.iterations=3", "baselines.weight=0.01", "baselines.l1_edm=true"),
]  # fmt: skip
CASES = {
    "corrupt": Case(CORRUPT, (), _pictures),
    "import": Case(["import", "images.npy", "--sigma-n", "auto", "--out", "y"], (), _pictures),
    "import-kspace": Case(
        ["import", "scan.npy", "--corruption", "{kind: mri, acceleration: 3, acs: 4}", "--out", "y", "--reference", "x",
         "--sigma-n", "0"], (), _kspace),
    "pretrain": Case(PRETRAIN, (STORE,), _pictures, every=3),
    "distill": Case(DISTILL, (STORE, PRETRAIN), _pictures, every=6),
    "distill-without-network": Case(DISTILL, (STORE, PRETRAIN, DISTILL), _pictures),
    "sample": Case(["sample", "run", "--out", "s", "-n", "3"], (STORE, PRETRAIN, DISTILL), _pictures),
    "evaluate": Case(EVALUATE, (STORE, PRETRAIN, DISTILL), _pictures, every=2),
    "select": Case(["select", "run", "--keep"], (STORE, PRETRAIN, DISTILL), _pictures, every=5),
    "report": Case(["report", "run"], (STORE, PRETRAIN, DISTILL, EVALUATE), _pictures),
    "estimate-noise": Case(["estimate-noise", "images.npy", "--out", "noise.json"], (), _pictures),
    "statistics": Case(["evaluate", "run", "--features", "pixels", "--write-reference", "x.npz"], (RUN,), _pictures),
    "run": Case(RUN, (), _pictures, every=17),
    "run-on-another-store": Case(RUN, (OTHER, RUN), _pictures, every=17),
    "run-of-mri": Case(MRI, every=23),
}  # fmt: skip
CHANGED = {"distill-without-network": _without_network, "run-on-another-store": _swapped}  # just before the command
FINISHED = ("corrupt", "import", "import-kspace")  # never overwrite: once complete, repeating them says so


# The campaign


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with a hash of its content without times, every link, and every folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[name] = "folder"
        elif path.name == "report.html":
            found[name] = "page"
        else:
            data = path.read_bytes()
            if path.suffix in (".json", ".jsonl"):
                data = _TIMES.sub("", data.decode()).encode()
            found[name] = hashlib.sha256(data).hexdigest()
    return found


def made(name: str, folder: Path) -> Path:
    """The state in which a case begins."""
    case, start = CASES[name], folder / name / "start"
    start.mkdir(parents=True)
    case.prepare(start)
    for words in case.before:
        done = forked(start, words)
        if done.code:
            raise SystemExit(f"{name}: {' '.join(words)} ended with {done.code}: {done.error}")
    CHANGED.get(name, lambda folder: None)(start)
    return start


def campaign(name: str, folder: Path, faults: list[str], every: int, offset: int) -> Iterator[str]:
    """Run a case with faults at every `every`-th operation; yields what went wrong, in words."""
    case, start, work = CASES[name], made(name, folder), folder / name / "work"
    shutil.copytree(start, work, symlinks=True)
    whole = forked(work, case.words, Disk(work))
    if whole.code:
        raise SystemExit(f"{name}: ended with {whole.code}: {whole.error}")
    expected, count = contents(work), len(whole.operations)
    tried, began = 0, time.monotonic()
    for fault in faults:
        for at in range(1 + offset % every, count + 1, every):
            for half in (False, True) if fault == "kill" and whole.operations[at - 1].startswith("fsync") else (False,):
                shutil.rmtree(work)
                shutil.copytree(start, work, symlinks=True)
                tried += 1
                where = f"{name}: {fault}{' (half)' if half else ''} at {at}/{count} ({whole.operations[at - 1]})"
                yield from (
                    f"{where}: {wrong}" for wrong in _tried(case, name, work, Disk(work, fault, at, half), expected)
                )
    print(f"{name}: {count} operations, {tried} faults, {time.monotonic() - began:.0f} s", flush=True)


def _tried(case: Case, name: str, work: Path, disk: Disk, expected: dict[str, str]) -> Iterator[str]:
    done = forked(work, case.words, disk)
    if disk.fault == "kill" and done.code != KILLED:
        yield f"was not killed but ended with {done.code}: {done.error.strip()}"
    if disk.fault != "kill":
        lines = [line for line in done.error.splitlines() if not line.startswith("warning: ")]
        if done.code not in (0, 2) or (done.code == 2 and (len(lines) != 1 or len(lines[0]) > 300)):
            yield f"ended with {done.code}: {done.error.strip()[-600:]}"
    again = forked(work, case.words)
    if again.code and not (name in FINISHED and again.code == 2 and "exists already" in again.error):
        yield f"cannot be repeated ({again.code}): {again.error.strip()[-400:]}"
        return
    found = contents(work)
    differences = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    if differences:
        yield f"differs in {', '.join(differences[:6])}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the files")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--fault", nargs="*", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--every", type=int, help="try only each K-th operation")
    parser.add_argument("--offset", type=int, default=0, help="skip the first ones")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sys.addaudithook(_audit)
    for module in ("matplotlib.figure", "torchmetrics.image.kid", *OWN):  # once, not in every process
        importlib.import_module(module)
    problems = []
    for name in arguments.only:
        every = arguments.every or CASES[name].every
        for wrong in campaign(name, arguments.folder.resolve(), arguments.fault, every, arguments.offset):
            print(wrong, flush=True)
            problems.append(wrong)
    print(f"{len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
