"""Who wins, what is clear and what is not: laws of the verdict and of its tables, with unequal spreads and rivals."""

from __future__ import annotations

import math

import pytest

from restill.corruption import AdditiveNoise
from restill.metrics import Result
from restill.report import Column, compare, judge
from restill.report.comparison import RATE, SPEED_UP, best_of
from restill.report.protocol import Key, Words
from restill.report.trust import agreements
from test_report_table import NOISE, PIXELS, results

NOISE_FREE = AdditiveNoise(sigma_n=0.0)


def column(values: dict[str, float], stds: dict[str, float], lower: bool | None = True) -> Column:
    return Column(Key("clean", "pixels", "m"), Words("t", "t", lower), values, stds)


@pytest.mark.parametrize("rival", ["teacher-full", "teacher-truncated", "l1-edm"])
def test_one_rival_that_is_ahead_is_enough_to_lose(rival: str) -> None:
    values = {"teacher-full": 0.9, "teacher-truncated": 0.9, "l1-edm": 0.9, "student": 0.5}
    assert judge(results(values), 10, NOISE).wins is True
    for better in (0.4, 0.5):  # as good is not beaten
        verdict = judge(results({**values, rival: better}), 10, NOISE)
        assert verdict.wins is False and f"does not beat {rival} in" in verdict.answer
        assert len(verdict.not_won) == 1 and f"{rival} {better:.3f}" in verdict.not_won[0]


def test_measurements_and_reconstructions_are_no_rivals() -> None:
    """They are not drawn: a verdict does not depend on them."""
    values = {"measurements": 0.1, "l1-wavelet": 0.2, "teacher-full": 0.9, "student": 0.5}
    verdict = judge(results(values), 10, NOISE)
    assert verdict.wins is True and not verdict.not_won


@pytest.mark.parametrize(("first", "second"), [(0.0, 1.0), (1.0, 0.0), (3.0, 4.0), (0.6, 0.8), (1.0, 1.0)])
@pytest.mark.parametrize(("times", "clear"), [(1.5, False), (1.99, False), (2.01, True), (3.0, True)])
def test_clear_is_more_than_twice_the_spread_of_the_difference(
    first: float, second: float, times: float, clear: bool
) -> None:
    """The spread of a difference is the root of the sum of squares, whichever of the two is the larger."""
    gap = times * math.hypot(first, second)
    for sign in (1, -1):
        found = column({"a": 5.0, "b": 5.0 + sign * gap}, {"a": first, "b": second})
        assert found.clear("a", "b") is clear and found.clear("b", "a") is clear


def test_an_unknown_spread_counts_as_none() -> None:
    assert column({"a": 1.0, "b": 1.3}, {"a": 0.1}).clear("a", "b")
    assert not column({"a": 1.0, "b": 1.1}, {"b": 0.1}).clear("a", "b")
    assert not column({"a": 1.0, "b": 1.0}, {}).clear("a", "b")


def test_the_answer_names_only_the_rivals_that_are_close() -> None:
    rows = [
        *results({"teacher-full": 0.9}, std=0.1),
        *results({"teacher-truncated": 0.6}, std=0.1),
        *results({"student": 0.5}, std=0.01),
    ]
    answer = judge(rows, 10, NOISE).answer
    assert "the difference from teacher-truncated is within twice the spread over sampling seeds" in answer
    lost = [*results({"teacher-full": 0.9}, std=0.3), *results({"teacher-truncated": 0.4, "student": 0.5}, std=0.01)]
    assert "is within" not in judge(lost, 10, NOISE).answer  # who is not ahead is not spoken of


@pytest.mark.parametrize("lower", [True, False])
def test_better_is_strict_and_has_a_side(lower: bool) -> None:
    found = column({"a": 1.0, "b": 2.0, "c": 1.0}, {}, lower)
    assert found.beats("a", "b") is lower and found.beats("b", "a") is not lower
    assert not found.beats("a", "c") and not found.beats("c", "a")
    assert found.best == ({"a", "c"} if lower else {"b"})
    unknown = column({"a": 1.0, "b": 2.0}, {}, None)
    assert not unknown.beats("a", "b") and not unknown.beats("b", "a") and not unknown.best
    assert best_of({"a": 1.0}, lower) == frozenset()


def test_the_deciding_column_is_that_of_clean_images_in_pixels() -> None:
    ahead, behind = {"teacher-full": 0.9, "student": 0.5}, {"teacher-full": 0.5, "student": 0.9}
    rows = [*results(behind, "classifier"), *results(behind, reference="measurements"), *results(ahead),
            *results({"teacher-full": 0.9, "student": 0.5}, metric="precision")]  # fmt: skip
    verdict = judge(rows, 10, NOISE)
    assert verdict.wins is True and "pixel-space Fréchet distance to clean images" in verdict.answer
    assert "judged by measurements alone" not in verdict.answer
    proximal = judge([*results(behind, "classifier"), *results(ahead, reference="measurements")], 10, NOISE)
    assert proximal.wins is True and "judged by measurements alone" in proximal.answer
    pooled = judge(results(ahead, "pixels/2"), 10, NOISE)
    assert pooled.wins is True
    assert judge(results({"teacher-full": 0.5, "student": 0.9}, metric="precision"), 10, NOISE).wins is None


def speeds(rates: dict[str, float]) -> list[Result]:
    rows: list[Result] = []
    for subject, rate in rates.items():
        rows += results({subject: PIXELS[subject]}, images_per_second=rate, seconds=1000 / rate)
    return rows


def test_speed_ups_are_relative_to_the_truncated_teacher_or_else_the_full_one() -> None:
    table = compare(speeds({"teacher-full": 5.0, "teacher-truncated": 10.0, "student": 300.0}))
    rate, ratio = table.clock(RATE), table.clock(SPEED_UP)
    assert rate is not None and ratio is not None and table.base == "teacher-truncated"
    assert ratio.values == {"teacher-full": 0.5, "teacher-truncated": 1.0, "student": 30.0}
    assert rate.best == {"student"} and rate.words.lower is False
    alone = compare(speeds({"teacher-full": 5.0, "student": 300.0}))
    ratio = alone.clock(SPEED_UP)
    assert ratio is not None and alone.base == "teacher-full" and ratio.values["student"] == 60


def test_agreement_of_rankings_is_by_order_and_better_side() -> None:
    def both(metric: str, clean: dict[str, float], proximal: dict[str, float]) -> bool:
        rows = [*results(clean, metric=metric), *results(proximal, reference="measurements", metric=metric)]
        [found] = agreements(compare(rows))
        return found.agrees

    up, down = {"teacher-full": 0.2, "student": 0.4}, {"teacher-full": 0.9, "student": 0.3}
    for metric in ("frechet", "precision"):
        assert both(metric, up, {name: 10 * value for name, value in up.items()})
        assert not both(metric, up, down)
        for order in (up, down):
            assert not both(metric, order, {"teacher-full": 0.3, "student": 0.3})  # a tie is not an order


def test_what_differs_between_runs_is_told_with_both_values() -> None:
    from restill.report.protocol import differences

    [a] = results({"student": 1.0}, settings={"k": 3})
    for change, words in {
        "n": "n (1,000 and 7)",
        "resize": "resize (none and averaged)",
        "clipping": "clipped (none and 0 to 255)",
        "settings": "the setting k (3 and 5)",
        "features_fingerprint": "the hash of the features",
        "reference_fingerprint": "the hash of the reference",
    }.items():
        new = {"n": 7, "resize": "averaged", "clipping": "0 to 255", "settings": {"k": 5}}.get(change, "other")
        assert words in differences(a, a.model_copy(update={change: new}))
    for unimportant in ("value", "std", "seeds", "sampler", "seconds"):
        assert differences(a, a.model_copy(update={unimportant: None})) == ""
