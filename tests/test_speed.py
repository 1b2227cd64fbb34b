"""Speeds are counted in network evaluations and measured in turns; a clock that contradicts the count is doubted."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pytest
import torch
from rich.console import Console, RenderableType
from torch import Tensor

from restill.core.processes import ALONE
from restill.diffusion import Counted
from restill.generator import Generator
from restill.metrics import Result
from restill.metrics.speed import Speed, evaluations_of, speeds
from restill.report import compare, judge, summary
from restill.report.comparison import EVALUATIONS, RATE
from restill.sampling import Heun, OneStep, Sampler, karras_levels
from test_generator import CONFIG
from test_report_table import NOISE, PIXELS, results
from tiny import tiny_denoiser


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (OneStep(init_sigma=2.5), 1),
        (Heun(num_steps=18), 35),
        (Heun(num_steps=4), 7),
        # two for each level whose successor is not below stop_at, and one for the level where it ends
        (Heun(num_steps=18, stop_at=0.4), 2 * int((karras_levels(18)[1:] >= 0.4).sum()) + 1),
    ],
    ids=["one step", "heun 18", "heun 4", "truncated"],
)
def test_the_evaluations_of_a_sampler_are_counted(sampler: Sampler, expected: int) -> None:
    for batch_size in (2, 5, 100):
        assert evaluations_of(Generator(tiny_denoiser(), CONFIG, sampler, batch_size), 5) == expected


def test_a_counted_denoiser_draws_the_same_images() -> None:
    inner = tiny_denoiser(classes=3).eval()
    counted = Counted(inner)
    assert counted.num_classes == 3 and counted.prior is not None
    z, labels = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    for sampler in (OneStep(init_sigma=2.5), Heun(num_steps=3)):
        assert torch.equal(sampler(counted, z, None, labels), sampler(inner, z, None, labels))
    assert counted.evaluations == 4 * (1 + 5)


def test_subjects_draw_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, int]] = []

    class Named(Generator):
        def draw(
            self, indices: Sequence[int], seed: int, batch_size: int | None = None, labels: Tensor | None = None
        ) -> Iterator[Tensor]:
            drawn.append((repr(self.sampler), len(indices)))
            return super().draw(indices, seed, batch_size, labels)

    one = Named(tiny_denoiser(), CONFIG, OneStep(init_sigma=2.5), 8)
    many = Named(tiny_denoiser(), CONFIG, Heun(num_steps=2), 4)
    found = speeds({"student": one, "teacher-full": many}, 6, ALONE, turns=3)
    assert [n for _, n in drawn] == [6, 4] * 3 and drawn[0] != drawn[1]
    assert [speed.evaluations for speed in found.values()] == [1, 3]
    assert all(len(speed.rates) == 3 and min(speed.rates) > 0 for speed in found.values())


def test_one_slow_turn_does_not_count() -> None:
    fields = Speed(1.0, (100.0, 100.0, 2.0, 110.0, 100.0)).fields(50)
    assert fields["images_per_second"] == 100 and fields["seconds"] == 0.5
    assert fields["images_per_second_std"] == pytest.approx(45.2, abs=0.1)
    assert Speed(1.0, (100.0,)).fields(50)["images_per_second_std"] is None


def printed(what: RenderableType) -> str:
    stream = io.StringIO()
    Console(file=stream, width=400).print(what)
    return stream.getvalue()


def timed(**rates: float) -> list[Result]:
    needed = {"teacher-full": 35.0, "teacher-truncated": 21.0, "student": 1.0}
    rows: list[Result] = []
    for name, rate in rates.items():
        subject = name.replace("_", "-")
        rows += results(
            {subject: PIXELS[subject]}, evaluations=needed[subject], images_per_second=rate, seconds=1000 / rate,
            images_per_second_std=rate / 20,
        )  # fmt: skip
    return rows


def test_a_full_sampler_that_comes_out_faster_than_the_truncated_one_is_said() -> None:
    busy = timed(teacher_full=50.0, teacher_truncated=40.0, student=900.0)
    said = compare(busy).busy
    assert "teacher-full (35 evaluations for each image) came out faster than teacher-truncated (21)" in said
    assert "student" not in said and "compare the evaluations" in said
    verdict = judge(busy, 10, NOISE)
    assert said in verdict.notes and "times as many" not in verdict.headline
    assert "The clock cannot be trusted" in printed(summary(busy, verdict))
    slow = timed(teacher_full=50.0, teacher_truncated=80.0, student=49.0)
    assert compare(slow).busy.count("came out faster") == 2


def test_a_clock_that_agrees_with_the_count_is_not_doubted() -> None:
    fine = timed(teacher_full=40.0, teacher_truncated=50.0, student=900.0)
    assert compare(fine).busy == ""
    headline = judge(fine, 10, NOISE).headline
    assert "900 images per second, one network evaluation each, 18.0 times as many as teacher-truncated" in headline
    assert "teacher-truncated, which takes 21 evaluations." in headline
    table = compare(fine)
    counts, rates = table.clock(EVALUATIONS), table.clock(RATE)
    assert counts is not None and rates is not None
    assert [counts.cell(subject) for subject in table.subjects] == ["35", "21", "1"]
    assert rates.cell("student") == "900 ± 45"


def test_older_results_without_counts_are_shown_as_before() -> None:
    old = results(PIXELS)
    assert compare(old).busy == "" and compare(old).clock(EVALUATIONS) is None
    assert "40.0 times as many as teacher-truncated." in judge(old, 10, NOISE).headline
