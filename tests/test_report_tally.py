"""The headline says in which metrics the student loses, and in how many it is ahead."""

from __future__ import annotations

import pytest

from restill.metrics import Result
from restill.report import compare, judge
from restill.report.protocol import Key, words_of
from restill.report.tally import tally_of
from test_report_table import NOISE, results

BETTER_IS = {
    "frechet": "lower", "frechet-infinity": "lower", "kid": "lower", "lpips": "lower",
    "inception-score": "higher", "precision": "higher", "recall": "higher", "density": "higher",
    "coverage": "higher", "psnr": "higher", "ssim": "higher",
}  # fmt: skip
RIVALS = ("teacher-full", "teacher-truncated", "l1-edm")


def column(student: float, metric: str = "frechet", std: float | None = None, **rivals: float) -> list[Result]:
    values = {name.replace("_", "-"): value for name, value in rivals.items()}
    return results({**values, "student": student}, metric=metric, std=std, reference="clean")


@pytest.mark.parametrize("metric", BETTER_IS)
@pytest.mark.parametrize("rival", RIVALS)
def test_the_direction_of_every_metric(metric: str, rival: str) -> None:
    """The student is ahead of any one rival, or behind it, by which side is the better one in the literature."""
    lower = BETTER_IS[metric] == "lower"
    for student, ahead in ((0.4, lower), (0.6, not lower)):
        tally = tally_of(compare(results({rival: 0.5, "student": student}, metric=metric)))
        assert (len(tally.ahead), len(tally.lost), len(tally.tied)) == ((1, 0, 0) if ahead else (0, 1, 0))
        table = compare(results({rival: 0.5, "student": student}, metric=metric)).quality[0]
        assert table.best == {"student" if ahead else rival}
        assert table.heading.endswith("↓" if lower else "↑")


def test_every_known_metric_has_a_direction() -> None:
    from restill.metrics.measure import PAIR_METRICS, SET_METRICS

    assert set(BETTER_IS) == {*SET_METRICS, *PAIR_METRICS}
    assert words_of(Key("clean", "pixels", "mine")).lower is None


def test_the_losses_come_first_and_by_name() -> None:
    rows = [
        *column(0.4, teacher_full=0.5, teacher_truncated=0.6),
        *column(0.4, "precision", teacher_full=0.5, teacher_truncated=0.3),
        *column(0.5, "recall", teacher_full=0.5, teacher_truncated=0.3),
        *results({"teacher-full": 1.0, "student": 2.0}, "classifier", metric="kid"),
        *results({"teacher-full": 1.0, "student": 0.5}, "pixels", "measurements"),
    ]
    verdict = judge(rows, 10, NOISE)
    assert verdict.answer.startswith(
        "The student loses in 2 and ties in 1 of 5 metrics: to clean, pixels (Precision, Recall); to clean, classifier "
        "(KID). It is ahead in 2. The student beats both teachers in"
    )
    assert verdict.headline.endswith(verdict.answer)
    assert [text.split(" (")[0] for text in verdict.not_won] == [
        "Pixel-space precision against clean images", "Kernel distance", "Pixel-space recall against clean images"
    ]  # fmt: skip
    assert "(student 0.400, teacher-full 0.500)" in verdict.not_won[0]


def test_all_ahead_and_none_ahead() -> None:
    two = [*column(0.4, teacher_full=0.5), *column(0.9, "ssim", teacher_full=0.5)]
    assert judge(two, 10, NOISE).answer.startswith("The student is ahead in all 2 metrics. The student beats")
    none = [*column(0.6, teacher_full=0.5), *column(0.4, "ssim", teacher_full=0.5)]
    assert (
        "loses in 2 of 2 metrics: to clean, pixels (Fréchet, SSIM). It is ahead in none."
        in judge(none, 10, NOISE).answer
    )


def test_one_metric_and_those_without_a_rival_or_a_better_side_are_not_counted() -> None:
    assert tally_of(compare(column(0.4, teacher_full=0.5))).sentence == ""
    rows = [
        *column(0.4, teacher_full=0.5),
        *results({"measurements": 0.1, "student": 0.5}, "a"),
        *results({"teacher-full": 0.1, "teacher-truncated": 0.5}, "b"),
        *results({"teacher-full": 0.1, "student": 0.5}, "c", metric="wobble"),
    ]
    tally = tally_of(compare(rows))
    assert len(tally.ahead) == 1 and not tally.lost and not tally.tied


def test_one_close_rival_makes_a_lead_close() -> None:
    rows = [*column(0.4, std=0.05, teacher_full=0.9, teacher_truncated=0.5), *column(0.9, "ssim", teacher_full=0.5)]
    assert len(tally_of(compare(rows)).close) == 1


@pytest.mark.parametrize(("std", "close"), [(0.03, 0), (0.05, 1)])
def test_a_lead_within_twice_the_uncertainty_is_counted_as_close(std: float, close: int) -> None:
    """A lead of .1: twice the uncertainty of the difference is .085 for two of .03, and .14 for two of .05."""
    rows = [*column(0.4, std=std, teacher_full=0.5), *column(0.9, "ssim", teacher_full=0.5)]
    tally = tally_of(compare(rows))
    assert len(tally.close) == close and len(tally.ahead) == 2
    assert ("in 1 of them by at most twice the uncertainty" in tally.sentence) is bool(close)
