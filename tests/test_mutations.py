"""The lists of mutations are current, and their driver tells a bug that tests notice from one that they miss."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mutations.driver import ROOT, Mutation, areas, mutations

FUNCTION = "def double(x: int) -> int:\n    return 2 * x\n"


def not_applicable(mutation: Mutation) -> ValueError | None:
    """Why a mutation does not fit the code."""
    try:
        mutation.apply(ROOT)
    except ValueError as error:
        return error
    return None


@pytest.mark.parametrize("area", areas())
def test_each_mutation_fits_the_code_and_names_tests_that_exist(area: str) -> None:
    listed = mutations(area)
    assert listed and len({(m.file, m.old, m.new) for m in listed}) == len(listed)
    stale = [str(error) for mutation in listed if (error := not_applicable(mutation))]
    assert not stale, "state the text as it is now, or remove the mutation:\n" + "\n".join(stale)
    for mutation in listed:
        assert ast.dump(ast.parse(mutation.apply(ROOT))) != ast.dump(ast.parse(mutation.path(ROOT).read_text("utf-8")))
        assert mutation.tests and mutation.why, mutation
        for test in mutation.tests:
            file, _, name = test.partition("::")
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert f"def {name.split('[')[0]}(" in text if name else True, test


def test_text_that_is_gone_or_occurs_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "src" / "restill").mkdir(parents=True)
    (tmp_path / "src" / "restill" / "a.py").write_text("x = 1\nx = 1\n")
    for old, times in (("x = 1", 2), ("y = 1", 0)):
        with pytest.raises(ValueError, match=f"some: a.py has {times} times, not once: {old}"):
            Mutation("some", "a.py", old, "x = 2", ("test_a.py",), "x").apply(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the driver forks")
def test_the_driver_counts_what_tests_notice(tmp_path: Path) -> None:
    package, tests = tmp_path / "src" / "restill", tmp_path / "tests"
    (tests / "mutations").mkdir(parents=True)
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "double.py").write_text(FUNCTION)
    (tests / "test_double.py").write_text(
        "from restill.double import double\ndef test_two():\n    assert double(2) == 4\n"
    )
    entry = {"file": "double.py", "old": "2 * x", "tests": ["test_double.py"], "why": "it is not doubled"}
    bugs = ("3 * x", "x ** 2", "[][x]", "double(x)", "2 * x if x else x")
    (tests / "mutations" / "some.yaml").write_text(yaml.safe_dump([entry | {"new": new} for new in bugs]))
    driver = ROOT / "tests" / "mutations" / "driver.py"
    done = subprocess.run([sys.executable, driver, "--root", tmp_path], capture_output=True, text=True)
    outcomes = [line.split()[0] for line in done.stdout.splitlines()]
    assert outcomes[:5] == ["killed", "survived", "killed", "killed", "survived"], done.stdout + done.stderr
    assert done.stdout.endswith("3 of    5 killed   60.0%\n") and done.returncode == 1
    assert "tests/test_double.py::test_two" in done.stdout
    assert (package / "double.py").read_text() == FUNCTION

    (package / "double.py").write_text("def double(x: int) -> int:\n    return 2 * x + 1\n")
    done = subprocess.run([sys.executable, driver, "--root", tmp_path], capture_output=True, text=True)
    assert done.returncode == 2 and "must pass without any mutation" in done.stderr and not done.stdout
