"""The verdict follows the numbers, and every form of the table shows them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from rich.console import Console

from restill.core.errors import UserError
from restill.corruption import AdditiveNoise, Corruption
from restill.metrics import Result
from restill.report import (
    Column,
    compare,
    corruption_in_words,
    judge,
    rich_table,
    separate,
    summary,
)
from restill.report.protocol import Key, Words
from restill.store import Manifest, Store

NOISE = AdditiveNoise(sigma_n=0.4)
PIXELS = {"measurements": 4.06, "teacher-full": 0.85, "teacher-truncated": 0.52, "student": 0.42}
CLASSIFIER = {"measurements": 82.9, "teacher-full": 29.6, "teacher-truncated": 6.6, "student": 7.1}
SECONDS = {"teacher-full": 10.9, "teacher-truncated": 10.4, "student": 0.26}


def results(
    values: dict[str, float],
    features: str = "pixels",
    reference: str = "clean",
    std: float | None = None,
    metric: str = "frechet",
    uncertainty: str | None = "seeds",
    **more: object,
) -> list[Result]:
    return [
        Result.model_validate({
            "subject": subject, "metric": metric, "features": features, "value": value, "std": std, "n": 1000,
            "uncertainty": None if std is None else uncertainty,
            "reference": reference, "features_fingerprint": features, "reference_fingerprint": reference,
            "seconds": SECONDS.get(subject),
            "images_per_second": 1000 / SECONDS[subject] if subject in SECONDS else None,
            **more,
        })
        for subject, value in values.items()
    ]  # fmt: skip


def stored(
    corruption: Corruption = NOISE,
    levels: Sequence[float] | None = None,
    image_shape: tuple[int, int, int] = (1, 8, 8),
    source: str = "",
    estimate: tuple[float, float] | None = None,
) -> Store:
    """1,797 measurements, or as many as there are levels, of 8 by 8 zeros; 0 and 16 in the files are -1 and 1."""
    sigma_n = torch.tensor([float(corruption.sigma_max)] * 1797 if levels is None else levels)
    found = None if estimate is None else {"sigma": 0.2, "interval": estimate, "per_sample": True, "method": "by eye"}
    manifest = Manifest.model_validate({
        "schema": 1, "kind": "measurements", "shape": (1, 8, 8), "image_shape": image_shape, "count": len(sigma_n),
        "normalisation": {"offset": 8.0, "scale": 8.0}, "value_range": (0.0, 16.0), "classes": None,
        "corruption": corruption.describe(),
        "sigma_n": {"min": 0, "mean": 0, "max": 0, "estimated": estimate is not None, "estimate": found},
        "shards": [{"file": "shard-0.safetensors", "count": len(sigma_n), "sha256": "a"}],
        "provenance": {"source": source, "seed": 0, "restill_version": "0", "created": "today"},
    })  # fmt: skip
    return Store(Path("y"), manifest, [{"y": torch.zeros(len(sigma_n), 1, 8, 8), "sigma_n": sigma_n}])


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
    assert "cannot detect errors" in " ".join(proximal.notes)


def test_a_difference_within_the_spread_is_called_that() -> None:
    assert "spread" in judge(results(PIXELS, std=0.1), 10, NOISE).answer
    assert "spread" not in judge(results(PIXELS, std=0.01), 10, NOISE).answer
    one_set = judge(results(PIXELS, std=0.1, uncertainty="jackknife"), 10, NOISE)
    assert "within twice the uncertainty" in one_set.answer and "standard error over the images of one set" in " ".join(
        one_set.notes
    )


def test_the_best_of_each_column_is_marked() -> None:
    pixels, classifier, seconds, rate, speed_up = compare(ALL).columns
    assert pixels.best == {"student"}
    assert classifier.best == {"teacher-truncated"}
    assert seconds.best == rate.best == speed_up.best == {"student"}
    assert speed_up.values["student"] == pytest.approx(40)
    tied = compare(results({"teacher-full": 1.0, "student": 1.0})).columns[0]
    assert tied.best == {"teacher-full", "student"}
    assert compare(results({"student": 1.0})).columns[0].best == frozenset()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 10}, r"n \(1,000 and 10\) differs"),
        ({"features_fingerprint": "another"}, "the hash of the features differs"),
        ({"reference_fingerprint": "another"}, "the hash of the reference differs"),
        ({"resize": "299x299"}, r"resize \(none and 299x299\) differs"),
        ({"settings": {"k": 5}}, r"the setting k \(- and 5\) differs"),
        ({"n": 10, "resize": "twice"}, r"n \(1,000 and 10\) and resize \(none and twice\) differ;"),
    ],
)
def test_numbers_that_do_not_compare_are_refused(change: dict[str, object], words: str) -> None:
    first, *teachers, student = results(PIXELS)
    odd = first.model_copy(update=change)
    with pytest.raises(UserError, match=f"cannot be compared: {words}"):
        compare([student, odd])
    kept, sentences = separate([odd, *teachers, student])
    assert kept == [*teachers, student]
    assert len(sentences) == 1 and "measurements (4.06) is left out" in sentences[0]
    verdict = judge([odd, *teachers, student], 10, NOISE)
    assert verdict.wins is True and verdict.notes[0] == sentences[0] and "measurements 4.06" not in verdict.headline


def test_what_is_kept_has_the_student() -> None:
    *others, student = results(PIXELS)
    alone = student.model_copy(update={"n": 10})
    kept, sentences = separate([*others, alone])
    assert kept == [alone] and len(sentences) == 3
    assert judge([*others, alone], 10, NOISE).wins is None
    assert separate(ALL) == (ALL, ())


def test_two_results_of_one_cell_and_none_at_all() -> None:
    student = results({"student": 0.4})[0]
    with pytest.raises(UserError, match="two results"):
        compare([student, student])
    with pytest.raises(UserError, match="no results"):
        compare([])


MANY = [
    *results(PIXELS, std=0.02),
    *results({"student": 0.9, "teacher-full": 0.5}, std=0.01, metric="precision", uncertainty="jackknife"),
    *results({"student": 0.4, "teacher-full": 0.5}, std=0.01, metric="kid", uncertainty="subsets"),
    *results(
        {"student": 7.0, "teacher-full": 8.0}, "inception", std=0.1, metric="inception-score", uncertainty="splits"
    ),
    *results({"student": 0.3, "teacher-full": 0.2}, "classifier", metric="lpips"),
    *results({"student": 0.3, "teacher-full": 0.2}, "classifier", metric="recall"),
    *results({"student": 0.3, "teacher-full": 0.2}, "classifier", metric="wobble"),
    *results(PIXELS, reference="measurements"),
]


def test_each_metric_knows_its_better_side() -> None:
    columns = {column.key.metric: column for column in compare(MANY).quality}
    best = {name: column.best for name, column in columns.items() if name != "frechet"}
    assert best == {
        "precision": {"student"}, "kid": {"student"}, "inception-score": {"teacher-full"}, "lpips": {"teacher-full"},
        "recall": {"student"}, "wobble": frozenset(),
    }  # fmt: skip
    assert [columns[name].heading for name in ("kid", "recall", "wobble")] == ["KID ↓", "Recall ↑", "wobble"]
    assert "wobble" not in judge(MANY, 10, NOISE).where_not


def test_blocks_are_references_and_spaces_are_features() -> None:
    blocks = compare(MANY).blocks
    assert [block.reference for block in blocks] == ["clean", "measurements", ""]
    names = {features: [column.key.metric for column in columns] for features, columns in blocks[0].spaces}
    assert names == {
        "pixels": ["frechet", "kid", "precision"], "inception": ["inception-score"],
        "classifier": ["recall", "lpips", "wobble"],
    }  # fmt: skip
    assert "measurements" in blocks[1].subjects and "measurements" not in blocks[2].subjects


def test_kinds_of_uncertainty_are_told_apart() -> None:
    notes, columns = judge(MANY, 10, NOISE).notes, {column.key.metric: column for column in compare(MANY).quality}
    marks = {name: columns[name].cell("student")[-1] for name in ("precision", "kid", "inception-score")}
    assert len(set(marks.values())) == 3
    for name, words in {"precision": "one set", "kid": "subsets", "inception-score": "parts of one set"}.items():
        assert any(note.startswith(f"±{marks[name]} is") and words in note for note in notes)
    (only,) = (note for note in judge(results(PIXELS, std=0.1), 10, NOISE).notes if note.startswith("±"))
    assert only == "± is the standard deviation over sampling seeds; training was not repeated."
    old = [result.model_copy(update={"uncertainty": None, "seeds": (0, 1)}) for result in results(PIXELS, std=0.1)]
    assert only in judge(old, 10, NOISE).notes


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [
        (0.4567, 0.02, "0.457 ± 0.020"),
        (1234.4, 3.2, "1,234 ± 3"),
        (0.4567, 0.0004, "0.457 ± 0.0004"),
        (0.00012, 0.00002, "1.20e-04 ± 2.0e-05"),
        (0.5, 0.0, "0.500 ± 0.000"),
    ],
)
def test_uncertainties_have_the_decimals_of_their_value(value: float, std: float, text: str) -> None:
    column = Column(Key("clean", "pixels", "m"), Words("t", "t", True), {"student": value}, {"student": std})
    assert column.cell("student") == text and column.cell("student", spread=False) == text.split(" ± ")[0]


def test_a_table_of_many_metrics_fits_80_columns() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(rich_table(MANY, {"measurements": "zero-filled"}))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for words in (
        "to clean, pixels",
        "to clean, classifier",
        "proximal, pixels",
        "Inception score ↑",
        "0.400 ★",
        "zero-",
    ):
        assert words in stream.getvalue()
    assert any(line.split()[:2] == ["Precision", "↑"] and "0.900 ★" in line for line in lines)


def test_the_terminal_shows_headline_table_and_losses() -> None:
    verdict = judge(ALL, 1797, NOISE)
    stream = io.StringIO()
    Console(file=stream, width=100).print(summary(ALL, verdict))
    flat = " ".join(stream.getvalue().split())
    for words in (verdict.headline, verdict.where_not, "0.420 ★", "6.60 ★", "40.0×"):
        assert words in flat


def test_many_losses_are_listed_by_groups() -> None:
    lost = [*results({"student": 2.0, "teacher-full": 1.0}), *results({"student": 2.0, "teacher-full": 1.0}, "dino")]
    assert "student 2.00" in judge(lost, 10, NOISE).where_not
    lost += results({"student": 0.1, "teacher-full": 0.5}, metric="recall")
    lost += results({"student": 2.0, "teacher-full": 1.0}, reference="measurements")
    verdict = judge(lost, 10, NOISE)
    assert verdict.listed == (
        "to clean, pixels (Fréchet, Recall)",
        "to clean, dino (Fréchet)",
        "proximal, pixels (Fréchet)",
    )
    assert len(verdict.not_won) == 4 and "; proximal, pixels (Fréchet)." in verdict.where_not


def test_hostile_names_stay_text() -> None:
    hostile = results(PIXELS, "[bold]|<b>\n")
    stream = io.StringIO()
    Console(file=stream, width=200).print(rich_table(hostile, {}))
    assert "[bold]" in stream.getvalue()


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (NOISE.describe(), "noise 0.4"),
        ({"kind": "noise", "sigma_n": [0.1, 0.2, 0.3, 0.05, 0.4]}, "noise 0.05 to 0.4 (5 levels)"),
        ({"kind": "noise", "sigma_n": [0, 0.2], "weights": [1, 3]}, "noise 0 or 0.2 (in proportion 1 : 3)"),
        ({"kind": "veil", "rate": 0.5, "sigma_n": 0.2}, "veil (rate 0.5) and noise 0.2"),
        ({"kind": "haze", "sigma_n": 0.0}, "haze and no noise"),
    ],
)
def test_a_corruption_in_words(description: dict[str, object], words: str) -> None:
    assert corruption_in_words(description) == words
