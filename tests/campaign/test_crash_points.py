"""Wherever a command is killed, or its disk fails, the same command then gives the same files."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs fork and Linux' /proc")
DRIVER = Path(__file__).with_name("crash_points.py")
sys.path.insert(0, str(DRIVER.parent))

from crash_points import CASES, contents  # noqa: E402


def driver(folder: Path, *words: str) -> None:
    """Run the driver in a process of its own, which has no threads when it forks."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(DRIVER), "--folder", str(folder), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("\n0 problems\n"), done.stdout + done.stderr[-3000:]


def test_a_few_faults_of_a_few_commands(tmp_path: Path) -> None:
    """A short form of the campaign, always the same."""
    driver(tmp_path, "--only", "corrupt", "pretrain", "--every", "10", "--fault", "kill")


@pytest.mark.campaign
@pytest.mark.parametrize("name", CASES)
def test_all_faults(tmp_path: Path, name: str) -> None:
    """Of long commands not all in one day: where it begins depends on the date, which a failure names."""
    driver(tmp_path, "--only", name, "--offset", str(datetime.date.today().toordinal()))


def test_the_comparison_sees_bytes_names_and_links_but_no_times(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"time": "2026-01-01", "images_per_second": 3.5, "value": 1}')
    before = contents(tmp_path)
    (tmp_path / "a.json").write_text('{"time": "2027-01-01", "images_per_second": 4.5, "value": 1}')
    assert contents(tmp_path) == before
    (tmp_path / "a.json").write_text('{"time": "2027-01-01", "images_per_second": 4.5, "value": 2}')
    assert contents(tmp_path) != before
    (tmp_path / "link").symlink_to("a.json")
    assert contents(tmp_path)["link"] == "-> a.json"
