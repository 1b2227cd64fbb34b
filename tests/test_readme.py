"""The README's Python example runs as it stands, but for its length."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from restill.corruption import corruption_from, corruption_kinds

README = Path(__file__).resolve().parents[1] / "README.md"


def test_python_example(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the example takes scikit-learn's digits")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert "128_000" in code
    code = code.replace("128_000", "2_560") + "\nassert grid.shape == (64, 1, 8, 8) and float(grid.std()) > 0.01\n"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert "teacher {" in result.stdout and "score_gap" in result.stdout
    assert (tmp_path / "digits-store" / "manifest.json").is_file()


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / link).exists(), link


def test_every_kind_of_corruption_has_a_line_that_can_be_copied() -> None:
    lines = re.findall(r"`({kind: .*?})` \|", README.read_text(encoding="utf-8"))
    kinds = {corruption_from(yaml.safe_load(line)).kind for line in lines}
    assert kinds == {kind for kind in corruption_kinds() if not kind.startswith(("custom-", "test-"))}
