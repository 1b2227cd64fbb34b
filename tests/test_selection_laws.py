"""The choice of a checkpoint: what decides, what is as good, and on which draws each is measured."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from restill.checkpoint import load_network_config, save_state
from restill.core.progress import silent
from restill.core.tensors import seeded
from restill.metrics import Estimate, FeatureSet, pixels_of
from restill.selection import choose
from restill.selection.best import BestStudent
from restill.selection.choice import Candidate
from restill.selection.measuring import Checkpoint, CleanMoments, Measurer
from restill.selection.snapshots import MAX_PROFILE_ERROR, Snapshot, averaged, parts_of, snapshot_steps
from restill.training import Progress
from restill.training.posthoc import TRACKED, profile_error
from test_generator import CONFIG
from tiny import tiny_denoiser


def candidate(*values: float, clean: float | None = None, images: int = 1000) -> Candidate:
    return Candidate(images, 0.1, values, 0.25, clean)


def test_the_smallest_mean_is_chosen_whatever_the_clean_images_say() -> None:
    lucky = candidate(0.1, 5.0, 5.0, clean=0.1)
    steady, same = candidate(2.0, 2.1, 2.2, clean=9.0), candidate(2.2, 2.1, 2.0, images=2000)
    choice = choose([lucky, steady, same])
    assert choice.best is steady and choice.best.proximal == pytest.approx(2.1)
    assert choose([same, steady, lucky]).best is same  # the first of equals


@pytest.mark.parametrize("repeats", [2, 3, 4, 5])
def test_near_is_a_paired_test_at_95_percent(repeats: int) -> None:
    """For a gap just inside and just outside of the quantile of Student's t, with one degree of freedom fewer."""
    base = torch.linspace(1.0, 2.0, repeats).tolist()
    wobble = [(-1.0) ** k for k in range(repeats)]
    error = float(torch.tensor(wobble).std()) / math.sqrt(repeats)
    mean = sum(wobble) / repeats
    quantile = float(stats.t.ppf(0.975, repeats - 1)) * error
    for factor, near in ((0.98, True), (1.02, False)):
        other = candidate(*(b + w - mean + factor * quantile for b, w in zip(base, wobble, strict=True)))
        best = candidate(*base)
        assert (other in choose([best, other]).near) is near


def test_the_oracle_is_the_nearest_to_the_clean_images_where_all_are_known() -> None:
    a, b = candidate(1.0, 1.1, clean=3.0), candidate(2.0, 2.1, clean=1.0)
    assert choose([a, b]).best is a and choose([a, b]).oracle is b
    assert choose([a, candidate(2.0, 2.1)]).oracle is None


@pytest.mark.parametrize(("steps", "number"), [(100, 16), (60, 4), (7, 3), (3, 16)])
def test_the_last_step_has_a_snapshot(steps: int, number: int) -> None:
    chosen = sorted(snapshot_steps(steps, number))
    assert chosen[-1] == steps and len(chosen) == min(number, steps) and chosen[0] >= 1


def snapshots(times: int) -> list[Snapshot]:
    return [Snapshot(Path(f"{t}-{s}"), 1000 * t, s) for t in range(1, times + 1) for s in TRACKED]


@pytest.mark.parametrize("times", [1, 2, 8, 16])
def test_an_average_is_offered_only_where_its_profile_is_reproduced(times: int) -> None:
    known = snapshots(times)
    profiles = [s.profile for s in known]
    for length in (0.01, 0.03, 0.05, 0.07, 0.15, 0.28):
        target = (1000.0 * times, length)
        parts = parts_of(known, 1000 * times, length)
        if parts is None:
            assert length not in TRACKED
            continue
        weights = torch.tensor([dict(parts).get(s.path, 0.0) for s in known], dtype=torch.float64)
        assert profile_error(profiles, weights, target) <= MAX_PROFILE_ERROR + 1e-9
        assert float(weights.sum()) == pytest.approx(1)
    assert parts_of(known, 1000 * times, 0.05) == ((known[-2].path, 1.0),)
    assert times > 2 or parts_of(known, 1000 * times, 0.01) is None


def test_a_sum_of_snapshots_has_their_weights_and_loses_no_digits(tmp_path: Path) -> None:
    values = [1e4 * torch.randn(50, generator=seeded("parts", k)) for k in range(3)]
    for k, value in enumerate(values):
        save_state(tmp_path / str(k), {"w": value}, {})
    weights = [900.7, -1000.4, 100.7]  # of one sign or another: large parts cancel
    found = averaged([(tmp_path / str(k), w) for k, w in enumerate(weights)])["w"]
    exact = sum(w * value.double() for w, value in zip(weights, values, strict=True))
    assert found.dtype == torch.float32 and torch.equal(found, torch.as_tensor(exact).float())


class Student:
    """Draws what its seed says."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.denoiser = tiny_denoiser()

    def draw(self, indices: range, seed: int) -> Any:
        self.seeds.append(seed)
        yield torch.randn(len(indices), 1, 8, 8, generator=seeded("student", seed % 1000))


class Distance:
    """Counts up; its error is known."""

    bounds, features = None, pixels_of((1, 8, 8))

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, images: Tensor, seed: int) -> Estimate:
        self.calls.append(seed)
        return Estimate(float(len(self.calls)), (3.0, 4.0, 12.0)[len(self.calls) - 1], "jackknife")


def measurer(clean: CleanMoments | None = None, **settings: Any) -> Measurer:
    return Measurer(Student(), Distance(), clean, samples=80, seed=5, settings=settings)  # type: ignore[arg-type]


def test_each_checkpoint_meets_the_same_different_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = CleanMoments(FeatureSet(64).update(torch.randn(90, 64, generator=seeded("clean"))).moments, "these")
    rows, seeds = [], []
    for _ in range(2):
        one = measurer(clean)
        monkeypatch.setattr(one, "load", lambda checkpoint: None)
        rows.append(one.measure(Checkpoint(100, None, ()), silent))
        seeds.append((one.student.seeds, one.proximal.calls))  # type: ignore[attr-defined]
    assert rows[0] == rows[1] and seeds[0] == seeds[1] and len(set(seeds[0][0])) == 3 and seeds[0][0] == seeds[0][1]
    assert rows[0]["values"] == [1, 2, 3] and rows[0]["proximal_frechet"] == 2
    assert rows[0]["error"] == pytest.approx(13 / 3)  # of the mean of three with errors 3, 4, 12
    assert rows[0]["reference"] == "these" and rows[0]["clean_frechet"] > 0


def test_what_was_measured_otherwise_is_measured_again() -> None:
    one = Checkpoint(100, 0.1, ((Path("a"), 0.5), (Path("b"), 0.5)))
    hashes = {Path("a"): "1", Path("b"): "2"}
    known = measurer(precision="fp32").key(one, hashes)
    assert measurer(precision="fp32").key(one, hashes) == known
    assert measurer(precision="bf16").key(one, hashes) != known
    assert measurer(precision="fp32").key(one, {**hashes, Path("b"): "3"}) != known
    other = Checkpoint(100, 0.1, ((Path("a"), 0.4), (Path("b"), 0.6)))
    assert measurer(precision="fp32").key(other, hashes) != known


def test_distances_to_other_clean_images_are_measured_again() -> None:
    moments = FeatureSet(64).update(torch.randn(9, 64)).moments
    here, none = measurer(CleanMoments(moments, "these")), measurer()
    for row, with_clean, without in (
        (None, True, True), ({}, True, False),
        ({"reference": "those"}, True, False), ({"reference": "these"}, False, False),
    ):  # fmt: skip
        assert here.lacks(row) is with_clean and none.lacks(row) is without


def test_the_best_student_is_the_average_of_the_smallest_distance(tmp_path: Path) -> None:
    """Measured every 20 images of batches of 10, and at the end."""
    average, current = tiny_denoiser(), tiny_denoiser()
    with torch.no_grad():
        next(average.parameters()).fill_(0.25)
    training = SimpleNamespace(
        settings=SimpleNamespace(select_every=20, batch_size=10, select_samples=8),
        ema=SimpleNamespace(module=average), generator=SimpleNamespace(module=current), steps=7,
        guard=SimpleNamespace(check=lambda: None),
    )  # fmt: skip
    distances = {2: 3.0, 4: 1.0, 6: 2.0, 7: 1.0}
    now = {"step": 0}
    rows: list[dict[str, Any]] = []

    def proximal(images: Tensor, seed: int) -> Estimate:
        return Estimate(distances[now["step"]], 0.1, "jackknife")

    keeper = BestStudent(
        tmp_path, training, CONFIG, proximal, seed=0, batch_size=8, log=rows.append  # type: ignore[arg-type]
    )  # fmt: skip
    best: dict[str, Any] = {}
    for step in range(1, 8):
        now["step"], training.images_seen = step, 10 * step
        best = keeper(Progress(step, 10 * step, None), best)
    assert [row["step"] for row in rows] == [2, 4, 6, 7]
    assert best == {"step": 4, "proximal_frechet": 1.0}
    assert load_network_config(tmp_path).images_seen == 40
    from restill.checkpoint import load_state

    tensors, _ = load_state(tmp_path / "model.safetensors")
    assert any(bool((value == 0.25).all()) for value in tensors.values())
