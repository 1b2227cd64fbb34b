"""README and docs against the code: the Python example runs, and commands, options, keys, names and paths exist."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import restill
from restill.cli import app as cli
from restill.core.kinds import kinds
from restill.corruption import corruption_from, corruption_kinds
from restill.runs.recipe import Recipe
from restill.runs.recipe_files import shipped_recipes
from restill.runs.recipe_keys import FAMILIES, member_keys, recipe_keys

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = [path for folder in ("bench", "docs", "examples") for path in sorted((ROOT / folder).glob("*.py"))]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_python_example(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the example takes scikit-learn's digits")
    (code,) = re.findall(r"```python\n(.*?)```", text_of(README), re.DOTALL)
    assert len(code.splitlines()) < 15 and code.count('load_recipe("digits-noise")') == 1
    short = 'load_recipe("digits-noise", ["teacher.images=2560", "student.images=640"])'
    code = code.replace('load_recipe("digits-noise")', short)
    code += """
images = next(restill.generate(student.ema.module, restill.OneStep(), range(64), store.image_shape))
assert images.shape == (64, 1, 8, 8) and float(images.std()) > 0.01
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert "teacher {" in result.stdout and "score_gap" in result.stdout
    assert (tmp_path / "store" / "manifest.json").is_file() and (tmp_path / "clean" / "manifest.json").is_file()


def commands(page: Path) -> Iterator[list[str]]:
    """Words of every command of restill, of blocks of code and in running text, without its comment."""
    text = text_of(page)
    lines = [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    for line in [*lines, *re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]:
        found = re.match(r"(?:torchrun .* -m )?restill ([a-z].*)", " ".join(line.split()))
        if found:
            yield shlex.split(found.group(1), comments=True)


@functools.cache
def options() -> dict[str, set[str]]:
    """Options of every command."""
    group: Any = typer.main.get_command(cli.app)
    return {name: {word for p in command.params for word in p.opts} for name, command in group.commands.items()}


@functools.cache
def keys() -> set[str]:
    """Every key of a recipe, of all kinds of all families, and of the sections that hold them."""
    usual = {name: kinds(family)[0] for name, family in FAMILIES.items()}
    found = {key.name for key in recipe_keys(usual)}
    found |= {
        key.name for name, family in FAMILIES.items() for kind in kinds(family) for key in member_keys(name, kind)
    }
    return found | {name.rpartition(".")[0] for name in found} - {""}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    for command, *words in commands(page):
        assert command in options(), f"{page.name}: restill {command}"
        named = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert named <= options()[command], f"{page.name}: restill {command} {named - options()[command]}"
        for flag, value in pairwise(words):
            if flag == "--set" and "." in value:
                assert value.partition("=")[0] in keys(), f"{page.name}: --set {value}"
            if flag == "--recipe":
                assert value in shipped_recipes(), f"{page.name}: {value}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_names_and_paths_exist(page: Path) -> None:
    sections = set(Recipe.model_fields)
    for word in re.findall(r"`([^`\n]+)`", text_of(page)):
        if re.fullmatch(r"[a-z]+(\.[a-z0-9_]+)+", word) and word.partition(".")[0] in sections:
            assert word in keys(), f"{page.name}: {word}"
        if re.fullmatch(r"restill\.[\w.]+", word) and not word.endswith((".py", ".plugins")):
            resolve(word, page)
        if re.fullmatch(r"(bench|examples|docs|tests|src)/[\w/.*-]+", word):
            assert list(ROOT.glob(word)), f"{page.name}: {word}"


def resolve(word: str, page: Path) -> None:
    """A dotted name of the package must be there."""
    found: Any = restill
    for part in word.split(".")[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(f"{getattr(found, '__name__', '')}.{part}")
        assert hasattr(found, part), f"{page.name}: {word}"
        found = getattr(found, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_of_benchmarks_exist(page: Path) -> None:
    """`python bench/X.py --option ...`: the file is there and has such options."""
    for name, words in re.findall(r"python ((?:bench|docs|examples)/\w+\.py)([^`\n]*)", text_of(page)):
        code = (ROOT / name).read_text(encoding="utf-8")
        assert "ArgumentParser" in code or "--" not in words.partition(" # ")[0]
        for option in re.findall(r"(?<!\S)--[a-z-]+", words.partition(" # ")[0]):
            assert f'"{option}"' in code, f"{page.name}: {name} {option}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_import_what_is_there(script: Path) -> None:
    """Benchmarks and examples, which are not run here, import names that the package has."""
    for node in ast.walk(ast.parse(text_of(script))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "restill":
            module = importlib.import_module(str(node.module))
            for name in node.names:
                known = hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}")
                assert known, f"{script.name}: {node.module} has no {name.name}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link, place in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]+))?\)", text_of(page)):
            target = page.parent / link if link else page
            assert target.exists(), f"{page.name}: {link}"
            assert not place or place in anchors(target), f"{page.name}: {link}#{place}"


def anchors(page: Path) -> list[str]:
    """The places of a page that a link can name: its headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_every_kind_of_corruption_has_a_line_that_can_be_copied() -> None:
    lines = re.findall(r"`({kind: .*?})` \|", text_of(README))
    found = {corruption_from(yaml.safe_load(line)).kind for line in lines}
    assert found == {kind for kind in corruption_kinds() if not kind.startswith(("custom-", "test-"))}


def test_recipes_in_the_docs_are_recipes() -> None:
    """Blocks of YAML: every key is known; a kind of the reader's own is replaced by one of ours."""
    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", text_of(page), re.DOTALL):
            data = yaml.safe_load(block)
            assert set(data) <= set(Recipe.model_fields), f"{page.name}: {block}"
