"""The table of corruptions in the benchmarks: its rows are recipes that exist, finished ones become Markdown."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from restill import run
from restill.runs.recipe_files import load_recipe
from tiny import SETTINGS


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[1] / "bench" / "table.py"
    spec = importlib.util.spec_from_file_location("bench_table", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_row_is_a_valid_run_of_its_own(bench: ModuleType) -> None:
    rows = bench.rows()
    assert len({row.name for row in rows}) == len(rows) == 29
    for row in rows:
        recipe = load_recipe(row.recipe, [*row.settings, f"seed={row.seed}"])
        assert recipe.seed == row.seed
        noisy = "noise" in row.title
        assert (row.images == "brains") == recipe.build_corruption().is_complex == ("R = " in row.title)
        assert (recipe.build_corruption().sigma_max > 0) == noisy
        assert not noisy or f"noise {recipe.build_corruption().sigma_max:g}".replace("0.", ".") in row.title
    assert {r.seed for r in rows if r.title in ("noise .4", "inpainting .8") and r.images == "digits"} == {0, 1, 2}


def test_finished_rows_are_shown_and_not_run_again(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = bench.rows()[1]
    assert bench.table(tmp_path).count("\n") == 1  # nothing but the head
    results, _ = run(row.recipe, tmp_path / row.name, [*row.settings, *SETTINGS])
    (tmp_path / f"{row.name}.json").write_text(json.dumps({"seconds": 90}))
    text = bench.table(tmp_path)
    assert f"digits: {row.title} | 0 | measurements" in text and text.count("\n") == 4 and "| 1.5 |" in text
    student = next(r.value for r in results if (r.subject, r.reference, r.metric) == ("student", "clean", "frechet"))
    assert f"| student | {student:.3g}" in text

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a finished row was run again")

    monkeypatch.setattr(bench.subprocess, "Popen", refuse)
    bench.run(row, tmp_path, {})
