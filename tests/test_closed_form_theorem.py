"""The linear low-rank theorem in both forms, solved numerically from random starts by `examples/linear_theorem.py`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from closed_form import covariance

EXAMPLE = Path(__file__).parents[1] / "examples" / "linear_theorem.py"
F64 = torch.float64


@pytest.fixture(scope="module")
def theorem() -> ModuleType:
    spec = importlib.util.spec_from_file_location("linear_theorem", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("matched", [True, False], ids=["matched", "mismatched"])
@pytest.mark.parametrize(
    ("dim", "rank", "sigma_n", "seed"), [(6, 2, 0.5, 0), (6, 2, 0.5, 7), (5, 3, 0.3, 1), (4, 1, 1.0, 2)]
)
def test_student_of_low_rank(
    theorem: ModuleType, dim: int, rank: int, sigma_n: float, seed: int, matched: bool
) -> None:
    """Matched: V = E E^T. Mismatched: V = (1 + sigma_n^2) E E^T. Eigenvalues and subspace, to 1e-6."""
    basis = theorem.subspace(dim, rank, seed)
    clean = basis @ basis.T
    teacher = clean + sigma_n**2 * torch.eye(dim, dtype=F64)
    student = theorem.distil(teacher, rank, corruption=sigma_n if matched else 0.0, seed=seed + 100)
    expected = clean if matched else (1 + sigma_n**2) * clean
    torch.testing.assert_close(student, expected, rtol=0, atol=1e-6)
    distance = 0.0 if matched else rank * ((1 + sigma_n**2) ** 0.5 - 1) ** 2
    assert theorem.w2_squared(student, clean) == pytest.approx(distance, abs=1e-5)
    own = rank * ((1 + sigma_n**2) ** 0.5 - 1) ** 2 + (dim - rank) * sigma_n**2
    assert theorem.w2_squared(teacher, clean) == pytest.approx(own, rel=1e-6) and own > distance


def test_full_rank_mismatched_student_reproduces_the_noise(theorem: ModuleType) -> None:
    """The low rank is essential: without it the uncorrupted fake score leads to the law of the measurements."""
    basis = theorem.subspace(4, 2, 0)
    noisy = basis @ basis.T + 0.25 * torch.eye(4, dtype=F64)
    torch.testing.assert_close(theorem.distil(noisy, 4, corruption=0.0, seed=1), noisy, rtol=0, atol=1e-6)


def test_fisher_divergence_is_that_of_the_scores(theorem: ModuleType) -> None:
    student, teacher, eye = covariance(4), covariance(4, seed=1), torch.eye(4, dtype=F64)
    expected = torch.zeros((), dtype=F64)
    for s in theorem.LEVELS:
        gap = torch.linalg.inv(student + s**2 * eye) - torch.linalg.inv(teacher + s**2 * eye)
        expected += s**2 * torch.trace(gap @ (student + s**2 * eye) @ gap)
    torch.testing.assert_close(theorem.fisher_divergence(student, teacher), expected, rtol=1e-9, atol=0)
    assert theorem.fisher_divergence(teacher, teacher) < 1e-20 < expected


def test_w2_of_commuting_laws(theorem: ModuleType) -> None:
    first, second = (torch.tensor(v, dtype=F64) for v in ([1.0, 4.0, 0.0], [9.0, 1.0, 0.25]))
    expected = (first.sqrt() - second.sqrt()).square().sum().item()
    rotation = torch.linalg.qr(covariance(3))[0]
    rotated = [rotation @ torch.diag(values) @ rotation.T for values in (first, second)]
    assert theorem.w2_squared(*rotated) == pytest.approx(expected, rel=1e-7)


def test_example_runs_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--dim", "4", "--rank", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for name in ("measurements", "teacher", "student, mismatched", "student, matched"):
        assert name in done.stdout
    assert (tmp_path / "linear_theorem.png").stat().st_size > 10_000
