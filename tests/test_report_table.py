"""The verdict follows the numbers, and every form of the table shows them."""

import io

import pytest
from rich.console import Console

from restill.errors import UserError
from restill.metrics import Result
from restill.report import (
    compare,
    corruption_in_words,
    judge,
    markdown_summary,
    markdown_table,
    rich_table,
    summary,
)

NOISE = {"kind": "noise", "sigma_n": 0.4}
PIXELS = {"measurements": 4.06, "teacher-full": 0.85, "teacher-truncated": 0.52, "student": 0.42}
CLASSIFIER = {"measurements": 82.9, "teacher-full": 29.6, "teacher-truncated": 6.6, "student": 7.1}
SECONDS = {"teacher-full": 10.9, "teacher-truncated": 10.4, "student": 0.26}


def results(
    values: dict[str, float], features: str = "pixels", reference: str = "clean", std: float | None = None
) -> list[Result]:
    return [
        Result.model_validate({
            "subject": subject, "metric": "frechet", "features": features, "value": value, "std": std, "n": 1000,
            "reference": reference, "features_fingerprint": features, "reference_fingerprint": reference,
            "seconds": SECONDS.get(subject),
            "images_per_second": 1000 / SECONDS[subject] if subject in SECONDS else None,
        })
        for subject, value in values.items()
    ]  # fmt: skip


ALL = results(PIXELS) + results(CLASSIFIER, "classifier")


def test_the_headline_says_what_was_measured() -> None:
    verdict = judge(ALL, 1797, NOISE)
    assert verdict.wins is True
    assert verdict.headline.startswith("From 1,797 measurements with noise 0.4, and no clean image, the student draws")
    for words in (
        "40.0 times as many as teacher-truncated",
        "student 0.420",
        "measurements 4.06",
        "beats both teachers",
    ):
        assert words in verdict.headline
    assert len(verdict.not_won) == 1
    assert "classifier features (student 7.10, teacher-truncated 6.60)" in verdict.where_not


@pytest.mark.parametrize(
    ("changes", "wins", "words"),
    [
        ({}, True, "beats both teachers"),
        ({"student": 0.53}, False, "does not beat teacher-truncated in"),
        ({"student": 0.52}, False, "does not beat teacher-truncated in"),
        ({"student": 0.9}, False, "does not beat teacher-full and teacher-truncated"),
        ({"teacher-truncated": 0.41}, False, "does not beat teacher-truncated"),
    ],
)
def test_the_verdict_flips_with_the_numbers(changes: dict[str, float], wins: bool, words: str) -> None:
    verdict = judge(results({**PIXELS, **changes}), 10, NOISE)
    assert verdict.wins is wins
    assert words in verdict.answer
    assert bool(verdict.not_won) is not wins


def test_what_was_not_measured_is_not_claimed() -> None:
    without_student = {name: value for name, value in PIXELS.items() if name != "student"}
    alone = {"student": 0.4, "measurements": 4.0}
    for values in (without_student, alone):
        assert judge(results(values), 10, NOISE).wins is None
    assert judge(results(CLASSIFIER, "classifier"), 10, NOISE).wins is None
    one = judge(results({"teacher-full": 0.8, "student": 0.4}), 10, NOISE)
    assert (one.wins, "teacher-full, the only teacher measured" in one.answer) == (True, True)
    proximal = judge(results({**PIXELS, "measurements": 0.1}, reference="measurements"), 10, NOISE)
    assert (proximal.wins, "no clean reference" in proximal.answer) == (True, True)
    assert "cannot see" in " ".join(proximal.notes)


def test_a_difference_within_the_spread_is_called_that() -> None:
    assert "spread" in judge(results(PIXELS, std=0.1), 10, NOISE).answer
    assert "spread" not in judge(results(PIXELS, std=0.01), 10, NOISE).answer


def test_the_best_of_each_column_is_marked() -> None:
    pixels, classifier, seconds, rate, speed_up = compare(ALL).columns
    assert pixels.best == {"student"}
    assert classifier.best == {"teacher-truncated"}
    assert seconds.best == rate.best == speed_up.best == {"student"}
    assert speed_up.values["student"] == pytest.approx(40)
    tied = compare(results({"teacher-full": 1.0, "student": 1.0})).columns[0]
    assert tied.best == {"teacher-full", "student"}
    assert compare(results({"student": 1.0})).columns[0].best == frozenset()


def test_numbers_that_do_not_compare_are_refused() -> None:
    student = results({"student": 0.4})[0]
    for field in ("features_fingerprint", "reference_fingerprint"):
        with pytest.raises(UserError, match="evaluate all anew"):
            compare([*results(PIXELS)[:3], student.model_copy(update={field: "another"})])
    with pytest.raises(UserError, match="two results"):
        compare([student, student])
    with pytest.raises(UserError, match="no results"):
        compare([])
    few = [*results(PIXELS)[:3], student.model_copy(update={"n": 10})]
    assert "different numbers" in " ".join(judge(few, 10, NOISE).notes)


def test_terminal_and_markdown_show_headline_table_and_losses() -> None:
    verdict = judge(ALL, 1797, NOISE)
    stream = io.StringIO()
    Console(file=stream, width=100).print(summary(ALL, verdict))
    for text in (stream.getvalue(), markdown_summary(ALL, verdict)):
        flat = " ".join(text.split())
        for words in (verdict.headline, verdict.where_not, "0.420 ★", "6.60 ★", "40.0×"):
            assert words.replace("**", "") in flat.replace("**", "")
    assert len({line.count("|") for line in markdown_table(ALL).splitlines()}) == 1


def test_hostile_names_stay_text() -> None:
    hostile = results(PIXELS, "[bold]|<b>\n")
    assert "<b>" not in markdown_table(hostile)
    assert len(markdown_table(hostile).splitlines()) == 6
    stream = io.StringIO()
    Console(file=stream, width=200).print(rich_table(hostile))
    assert "[bold]" in stream.getvalue()


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (NOISE, "noise 0.4"),
        ({"kind": "noise", "sigma_n": [0, 0.2], "weights": [1, 3]}, "noise 0 or 0.2 (in proportion 1 : 3)"),
        ({"kind": "mask", "rate": 0.5, "sigma_n": 0.2}, "mask (rate 0.5) and noise 0.2"),
        ({"kind": "blur", "sigma_n": 0.0}, "blur and no noise"),
    ],
)
def test_a_corruption_in_words(description: dict[str, object], words: str) -> None:
    assert corruption_in_words(description) == words
