"""Fixtures that several test files use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from restill.cli import app as cli


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command; it must succeed. Returns what it prints, with single spaces."""

    def run(*words: object) -> str:
        capsys.readouterr()
        code = cli._run_app([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return " ".join(captured.out.split())

    return run


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run a command; it must end with exit code 2 and one line, which is returned, and leave no file behind."""

    def run(*words: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        code = cli._run_app([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 2 and captured.out == "" and captured.err.count("\n") == 1, captured.err
        assert sorted(tmp_path.rglob("*")) == before
        return captured.err

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real data sets, which lies beside the repository on some machines; skips where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no folder shared/data with real data sets beside the repository")
    return path
