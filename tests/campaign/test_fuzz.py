"""Whatever is damaged in a file, a command ends with a result or in one line, at little cost."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs fork and Linux' /proc")
DRIVER = Path(__file__).with_name("fuzz.py")
sys.path.insert(0, str(DRIVER.parent))
pytest.importorskip("h5py")

from fuzz import TARGETS, Done, damaged, inputs, wrong  # noqa: E402


def driver(folder: Path, *words: str) -> None:
    """Run the driver in a process of its own, which has no threads when it forks."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(DRIVER), "--folder", str(folder), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("\n0 problems\n"), done.stdout + done.stderr[-3000:]


def test_a_few_damaged_files_of_every_kind(tmp_path: Path) -> None:
    """A short form of the campaign, always the same."""
    driver(tmp_path, "--each", "2")


@pytest.mark.campaign
@pytest.mark.parametrize("seed", [0, secrets.randbelow(10**6)], ids=["fixed", "random"])
def test_many_damaged_files(tmp_path: Path, seed: int) -> None:
    """A failure names the seed."""
    driver(tmp_path, "--each", "100", "--seed", str(seed))


def test_what_must_not_be_is_noticed() -> None:
    assert wrong(Done(0, "", 9.0, 1 << 40)) is None  # a result may cost what it costs
    assert wrong(Done(2, "warning: odd\nrestill: x: is wrong\n", 0.1, 0)) is None
    for done in (
        Done(1, "Traceback", 0.1, 0), Done(2, "restill: a\nb", 0.1, 0), Done(2, "restill: " + "a" * 300, 0.1, 0),
        Done(2, "", 0.1, 0), Done(2, "restill: x", 3.0, 0), Done(2, "restill: x", 0.1, 2 << 30), Done(-9, "", 0.1, 0),
    ):  # fmt: skip
        assert wrong(done) is not None


def test_damage_depends_on_the_seed_alone_and_does_some(tmp_path: Path) -> None:
    inputs(tmp_path)
    for target in TARGETS.values():
        if (tmp_path / target.file).exists():
            data = (tmp_path / target.file).read_bytes()
            first, second = ([damaged(data, target.kind, random.Random(k)) for k in range(5)] for _ in range(2))
            assert first == second and any(new != data for _, new in first)
