"""The picture in docs/architecture.md is true, nothing that is loaded is executed, and training sees no clean image."""

from __future__ import annotations

import ast
import graphlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import restill.store.samples
from restill.io import digits  # noqa: F401 - imported here, so that importing it is not counted below
from restill.runs import distill, prepare_store, pretrain, working_on
from tiny import images, tiny_recipe

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "restill"
FILES = sorted(SOURCE.rglob("*.py"))
ALLOWED = {  # to import the file that opens clean images
    "runs/describe", "runs/evaluation", "runs/noise_report", "runs/reference_classifier", "runs/restored",
    "runs/selecting",
}  # fmt: skip
ENTRY = "__init__.py"  # names for users, each imported when it is first used


def layers() -> dict[str, int]:
    """Layer of each file or folder right under src/restill, from the picture in the documentation."""
    found = {}
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        if match := re.match(r"\s{2}((?:\w+(?:\.py|/)\s+)+)(\d+)\s", line):
            found |= {name.rstrip("/").removesuffix(".py"): int(match[2]) for name in match[1].split()}
    return found


def module(file: Path) -> tuple[str, ...]:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(file: Path) -> Iterator[tuple[str, ...]]:
    """Modules of the package that a file imports, anywhere in it, as paths without `restill`."""
    package = file.relative_to(SOURCE).parent.parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "restill")
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "restill"):
            inside = tuple((node.module or "").split(".")) if node.module else ()
            base = (*package[: len(package) - node.level + 1], *inside) if node.level else inside[1:]
            for alias in node.names:
                whole = SOURCE.joinpath(*base, alias.name)
                yield (*base, alias.name) if whole.with_suffix(".py").exists() or whole.is_dir() else base


def test_the_picture_shows_every_file_and_folder() -> None:
    there = {p.stem for p in SOURCE.iterdir() if (p.suffix == ".py" and p.stem[:2] != "__") or (p / ENTRY).exists()}
    assert set(layers()) == there and len(there) > 10


@pytest.mark.parametrize(
    "file", [f for f in FILES if f.parent != SOURCE or f.stem[:2] != "__"], ids=lambda f: str(f.relative_to(SOURCE))
)
def test_imports_come_from_lower_layers(file: Path) -> None:
    layer, own = layers(), module(file)[0]
    for target in imports(file):
        if target and target[0] != own:  # the package itself has only its version
            assert layer[target[0]] <= layer[own], f"{'.'.join(target)} lies above {own}"


def test_the_parser_sees_imports() -> None:
    """The checks here would pass if `imports` found nothing."""
    assert ("core", "modules") in set(imports(SOURCE / "checkpoint.py"))
    assert ("io", "images") in set(imports(SOURCE / "io" / "arrays.py"))
    assert ("runs", "describe") in set(imports(SOURCE / "cli" / "inspection.py"))  # inside a function
    assert sum(len(list(imports(file))) for file in FILES) > 150


def test_no_cycles() -> None:
    graph = {module(file): set(imports(file)) - {module(file)} for file in FILES if file != SOURCE / ENTRY}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError and names the cycle
    assert len(order) >= len(graph) > 60


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_nothing_is_executed_printed_or_unpickled(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            forbidden = {"print", "eval", "exec", "torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"}
            assert name not in forbidden, f"line {node.lineno}: {name}"
            for keyword in node.keywords:
                assert keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False", f"line {node.lineno}"
            assert name != "np.load" or any(k.arg == "allow_pickle" for k in node.keywords), f"line {node.lineno}"
        names = [a.name for a in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"} & set(names), names


def reached(start: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Modules that a module imports, and those that these import, and so on; without what a folder's entry adds."""
    files, found, waiting = {module(file): file for file in FILES}, set[tuple[str, ...]](), [start]
    while waiting:
        name = waiting.pop()
        if name not in found and name in files:
            found.add(name)
            waiting += imports(files[name])
    return found


@pytest.mark.parametrize("start", ["training", "runs/phases", "runs/run_store", "generator", "restoration"])
def test_training_cannot_name_the_clean_images(start: str) -> None:
    """Nothing that trains, makes a store or restores imports the file that opens clean images, however indirectly."""
    found = reached(tuple(start.split("/")))
    assert ("store", "samples") in found or start == "generator"  # else it would pass because nothing was found
    assert ("store", "reference") not in found


def test_only_those_who_compare_and_show_open_the_clean_images() -> None:
    """`evaluate` and `select` compare with them; `info` and `estimate-noise` show a person what lies at a path."""
    direct = {"/".join(module(file)) for file in FILES if ("store", "reference") in set(imports(file))}
    assert direct == ALLOWED


def test_training_never_opens_the_clean_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "clean.npy", images(40)[:, 0])
    recipe = tiny_recipe(
        data={"source": str(tmp_path / "clean.npy")},
        corruption={"kind": "noise", "sigma_n": 0.3},
        network={"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
        teacher={"images": 32, "batch_size": 16},
        student={"images": 32, "batch_size": 16, "select_every": 16, "select_samples": 16},
    )
    with working_on(tmp_path / "run", recipe) as run:
        prepare_store(run)
        assert (run.reference / "manifest.json").exists()
        shutil.rmtree(run.reference)
        (tmp_path / "clean.npy").unlink()
        run.reference.write_text("not for training")
        run.reference.chmod(0)
        opened: list[Path] = []
        original = restill.store.samples.read_manifest

        def recording(path: Path) -> object:
            opened.append(path)
            return original(path)

        monkeypatch.setattr(restill.store.samples, "read_manifest", recording)
        pretrain(run)
        distill(run)
    assert opened and set(opened) == {run.store}
    assert run.trained("teacher") and run.trained("student")
    kept = [row["proximal_frechet"] for row in run.read_log() if "proximal_frechet" in row]
    assert len(kept) == 2  # the student was chosen all the same
