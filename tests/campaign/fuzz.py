"""Damage every file that restill reads, and require of every command that reads it one line, or a result.

    python tests/campaign/fuzz.py --folder DIR [--only NAME ...] [--each N] [--seed S]

A valid file is taken and changed: a value of JSON or YAML replaced by a nasty one, a key dropped or added, the same in
the headers of safetensors, or bytes flipped, cut off and doubled. A process is forked for each command, once everything
is imported. It must end with exit code 0 or 2, in the latter case with one line of at most 300 characters, within two
seconds of CPU time and a gigabyte of memory beyond what it began with, and leave alone what lies outside its folder.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import random
import resource
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import h5py
import numpy as np
import torch
import yaml
from PIL import Image

import restill.cli.app as cli
from kspace import measured
from tiny import SETTINGS, images

MEMORY, SECONDS, LONGEST = 1 << 30, 2.0, 300
NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 10**6, 10**18, 10**400, -0.5, 1e308, float("nan"), float("inf"), "", "x", "../passwd",
    "\x1b[2J[bold]", "a" * 5000, [], [1], [[1]], [None], {}, {"kind": "noise"}, {"x": {"y": [1, {}]}}, [0] * 1000,
)  # fmt: skip
COPY = ["--out", "new", "-n", "2"]


class Target(NamedTuple):
    """A file, what it is made of, and the commands that read it."""

    file: str
    kind: str
    commands: tuple[list[str], ...]


IMPORT = ["--sigma-n", "5", "--out", "new"]
INFO, SAMPLE, REPORT = ["info", "run"], ["sample", "run", *COPY], ["report", "run"]
TARGETS = {
    "recipe": Target("run/recipe.yaml", "yaml", (INFO, SAMPLE)),
    "own-recipe": Target("own.yaml", "yaml", (["info", "own.yaml"],)),
    "manifest": Target("y/manifest.json", "json", (["info", "y"],)),
    "shard": Target("y/shard-00000.safetensors", "safetensors", (["info", "y"],)),
    "config": Target("run/student/config.json", "json", (["info", "run/student"], SAMPLE)),
    "weights": Target("run/student/model.safetensors", "safetensors", (["info", "run/student"], SAMPLE)),
    "state": Target("run/student/state.safetensors", "safetensors", (INFO, ["distill", "run"])),
    "made-from": Target("run/student/made-from.json", "json", (INFO, SAMPLE)),
    "log": Target("run/log.jsonl", "lines", (REPORT,)),
    "metrics": Target("run/metrics.json", "json", (INFO, REPORT)),
    "examples": Target("run/examples.safetensors", "safetensors", (REPORT,)),
    "levels": Target("levels.csv", "bytes", (["import", "images.npy", "--sigma-n", "levels.csv", "--out", "new"],)),
    "masks": Target("masks.npy", "bytes", (["import", "images.npy", "--masks", "masks.npy", *IMPORT],)),
    "npy": Target("images.npy", "bytes", (["import", "images.npy", *IMPORT],)),
    "npz": Target("images.npz", "bytes", (["import", "images.npz", *IMPORT],)),
    "png": Target("pictures/2.png", "bytes", (["import", "pictures", *IMPORT],)),
    "tiff": Target("stack/1.tif", "bytes", (["import", "stack", *IMPORT],)),
    "zip": Target("pictures.zip", "bytes", (["import", "pictures.zip", *IMPORT],)),
    "tar": Target("pictures.tar.gz", "bytes", (["import", "pictures.tar.gz", *IMPORT],)),
    "kspace": Target("scan.h5", "bytes", (["import", "scan.h5", *IMPORT],)),
}


# What is damaged


def inputs(folder: Path) -> None:
    """Valid files of every kind."""
    some = images(12)
    np.save(folder / "images.npy", some)
    np.savez(folder / "images.npz", images=some)
    np.save(folder / "masks.npy", np.random.default_rng(0).random((12, 8, 8)) > 0.2)
    (folder / "levels.csv").write_text("\n".join(f"{3 + k}" for k in range(12)))
    (folder / "own.yaml").write_text("name: own\ndata: {source: digits}\ncorruption: {kind: mask, p: 0.5}\n")
    for name, suffix in (("pictures", "png"), ("stack", "tif")):
        (folder / name).mkdir()
        for k in range(4):
            Image.fromarray(some[k, 0]).save(folder / name / f"{k}.{suffix}")
    with (
        zipfile.ZipFile(folder / "pictures.zip", "w") as packed,
        tarfile.open(folder / "pictures.tar.gz", "w:gz") as tar,
    ):
        for file in sorted((folder / "pictures").iterdir()):
            packed.write(file, file.name)
            tar.add(file, file.name)
    with h5py.File(folder / "scan.h5", "w") as scan:
        scan["kspace"] = measured(2, 2).astype(np.complex64)


def begin(folder: Path) -> None:
    """Inputs, and a run with all of its files. Raises SystemExit where a valid file is refused."""
    inputs(folder)
    chosen = [*SETTINGS, "data.source=images.npy", "data.resize=null", "student.snapshots=0"]
    commands = [["run", "tiny-noise", "--out", "run", *(word for one in chosen for word in ("--set", one))]]
    commands += [["corrupt", "images.npy", "--sigma-n", "0.3", "--out", "y"]]
    for words in commands:
        if (done := forked(folder, words, limits=False)).code:
            raise SystemExit(f"{' '.join(words)} ended with {done.code}: {done.error}")


# How it is damaged


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values of nested data."""
    yield at
    if isinstance(data, (dict, list)):
        for key in data if isinstance(data, dict) else range(min(len(data), 3)):
            yield from places(data[key], (*at, key))


def changed(data: Any, at: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of nested data, changed at one place: `change(container, key)`."""
    root = copy.deepcopy([data])
    inner, way = root, (0, *at)
    for key in way[:-1]:
        inner = inner[key]
    change(inner, way[-1])
    return root[0]


def plain(data: Any, chance: random.Random) -> tuple[str, Any]:
    """Nested data with one value replaced, dropped or added."""
    at = chance.choice(list(places(data)))
    how = chance.choice(("put", "put", "put", "drop", "add"))
    value = chance.choice(NASTY)

    def put(inner: Any, key: Any) -> None:
        inner[key] = value

    def drop(inner: Any, key: Any) -> None:
        if len(at):
            del inner[key]

    def add(inner: Any, key: Any) -> None:
        if isinstance(inner[key], dict):
            inner[key]["more"] = value
        else:
            inner[key] = [inner[key], value]

    return f"{how} {value!r:.40} at {list(at)}", changed(data, at, {"put": put, "drop": drop, "add": add}[how])


def flipped(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Bytes with some of them changed, cut off, doubled or put in."""
    how = chance.choice(("flip", "flip", "cut", "double", "zero", "head"))
    at = chance.randrange(max(1, min(len(data), 600) if chance.random() < 0.7 else len(data)))
    if how == "cut":
        return f"cut at {at}", data[:at]
    if how == "double":
        return f"doubled from {at}", data[:at] + data[at:] * 2
    size = chance.choice((1, 1, 2, 8))
    new = bytes(size) if how == "zero" else chance.randbytes(size) if how == "flip" else b"\xff" * size
    return f"{how} {size} at {at}", data[:at] + new + data[at + size :]


def damaged(data: bytes, kind: str, chance: random.Random) -> tuple[str, bytes]:
    """A damaged file and what was done to it."""
    if kind == "bytes" or chance.random() < 0.2:
        return flipped(data, chance)
    if kind == "safetensors":
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        meta = header.get("__metadata__", {})
        inner = next((key for key in meta if meta[key][:1] == "{"), None)
        if inner is not None and chance.random() < 0.5:
            what, new = plain(json.loads(meta[inner]), chance)
            meta[inner] = json.dumps(new)
        else:
            what, header = plain(header, chance)
        text = json.dumps(header).encode()
        return what, len(text).to_bytes(8, "little") + text + data[8 + size :]
    if kind == "lines":
        lines = data.splitlines()
        k = chance.randrange(len(lines))
        what, new = plain(json.loads(lines[k]), chance)
        lines[k] = json.dumps(new).encode()
        return what, b"\n".join(lines)
    what, new = plain(yaml.safe_load(data) if kind == "yaml" else json.loads(data), chance)
    return what, (yaml.safe_dump(new, allow_unicode=True) if kind == "yaml" else json.dumps(new)).encode()


# What comes of it


class Done(NamedTuple):
    """How a command ended."""

    code: int
    error: str
    seconds: float
    memory: int


def forked(folder: Path, words: list[str], limits: bool = True) -> Done:
    """Run a command in a process of its own, in `folder`."""
    error = folder.with_name("stderr")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if not child:
        try:
            os.chdir(folder)
            if limits:
                mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (mapped + 3 * MEMORY, mapped + 3 * MEMORY))
                resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
            for number, file in ((1, os.devnull), (2, error)):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            code = cli._run_app(words)
            sys.stderr.flush()
            os._exit(code)
        finally:
            os._exit(99)
    _, status, used = os.wait4(child, 0)
    text = error.read_text(errors="replace")
    return Done(
        os.waitstatus_to_exitcode(status), text, used.ru_utime + used.ru_stime, max(0, used.ru_maxrss - before) * 1024
    )


def wrong(done: Done) -> str | None:
    """What must not be, in words."""
    lines = [line for line in done.error.splitlines() if not line.startswith("warning: ")]
    if done.code not in (0, 2):
        return f"ended with {done.code}: {done.error.strip()[-500:]}"
    if done.code == 2 and (len(lines) != 1 or len(lines[0]) > LONGEST or not lines[0].startswith("restill: ")):
        return f"not one line: {done.error.strip()[-500:]}"
    if done.code == 2 and done.memory > MEMORY:
        return f"took {done.memory >> 20} MB to refuse"
    if done.code == 2 and done.seconds > SECONDS:
        return f"took {done.seconds:.1f} s to refuse"
    return None


def campaign(name: str, folder: Path, each: int, seed: int) -> Iterator[str]:
    """Damage one file `each` times; yields what went wrong, in words."""
    target, start, work = TARGETS[name], folder / "start", folder / "work"
    data, chance = (start / target.file).read_bytes(), random.Random(f"{seed}/{name}")
    refused = 0
    for number in range(each):
        what, new = damaged(data, target.kind, chance)
        for words in target.commands:
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(start, work, symlinks=True)
            (work / target.file).write_bytes(new)
            done = forked(work, words)
            refused += done.code == 2
            if (why := wrong(done)) is not None:
                yield f"{name} {number} (seed {seed}; {what}), {' '.join(words[:2])}: {why}"
    print(f"{name}: {each} damaged files, {refused} refusals", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the files")
    parser.add_argument("--only", nargs="*", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--each", type=int, default=40, help="damaged files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for module in ("matplotlib.figure", "acquisition", "runs.evaluation", "runs.reporting", "runs.describe", "io"):
        importlib.import_module(module if "." in module and module[0] == "m" else f"restill.{module}")
    folder = arguments.folder.resolve()
    (folder / "passwd").write_text("not to be touched")
    (folder / "start").mkdir()
    begin(folder / "start")
    problems = []
    for name in arguments.only:
        for problem in campaign(name, folder, arguments.each, arguments.seed):
            print(problem, flush=True)
            problems.append(problem)
    if (folder / "passwd").read_text() != "not to be touched" or len(list(folder.iterdir())) > 4:
        problems.append(f"{folder}: something outside of work/ was written")
        print(problems[-1])
    print(f"{len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main())
