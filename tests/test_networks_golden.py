"""Outputs and gradients of the published networks, as numbers that were recorded once (shared/golden)."""

import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


def test_golden_outputs_and_gradients() -> None:
    if not (GOLDEN / "replay.py").exists():
        pytest.skip(f"the recorded numbers are not at {GOLDEN}")
    factory = "restill.diffusion.networks:build_network"
    command = [sys.executable, str(GOLDEN / "replay.py"), "--dir", str(GOLDEN), "--factory", factory]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all ok" in done.stdout
    assert "param grad norms ok" in done.stdout
