"""Real images against real images say what a perfect generator scores, and every subject is compared with that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from restill.acquisition import corrupt_images
from restill.core.processes import ALONE
from restill.corruption import AdditiveNoise
from restill.io import array_source
from restill.metrics import Evaluator, FeatureSet, Result, load_results, measure, pixels_of, save_results, yardsticks_of
from restill.metrics.feature_set import Parts
from restill.metrics.settings import EvaluationSettings
from restill.metrics.speed import Speed
from restill.metrics.yardstick import random_order
from restill.report import compare, judge, summary
from restill.report.real import BEYOND, beyond, distance, nearest
from restill.store import Store
from restill.store.reference import Reference, open_reference
from test_clipping import generator
from test_report_table import NOISE, PIXELS, results
from test_speed import printed
from tiny import images

METRICS = ("frechet", "precision", "recall", "density", "coverage")


def stores(folder: Path, n: int) -> tuple[Store, Reference]:
    source = array_source(images(n), layout="NCHW")
    store = corrupt_images(source, AdditiveNoise(sigma_n=0.3), folder / "store", folder / "clean", seed=0)
    return store, open_reference(folder / "clean", store)


def evaluated(store: Store, clean: Reference, samples: int) -> list[Result]:
    settings, spaces = EvaluationSettings(samples=samples, seeds=(0,), metrics=METRICS), [pixels_of(store.image_shape)]
    yardsticks = [
        *yardsticks_of(clean, "clean", spaces, ALONE, samples),
        *yardsticks_of(store, "measurements", spaces, ALONE, samples),
    ]
    evaluator = Evaluator(yardsticks, settings, ALONE, store)
    drawn, _ = evaluator.of_generated("student", generator(), Speed(1.0, (1.0,)))
    return [*evaluator.of_real(), *evaluator.of_stored("measurements", store), *drawn]


@pytest.mark.parametrize(("samples", "half"), [(200, 60), (40, 40)])
def test_one_half_of_a_reference_is_compared_with_the_other(tmp_path: Path, samples: int, half: int) -> None:
    """Worked out here from the images: two sets of equally many, without a common image."""
    store, clean = stores(tmp_path, 121)
    found = {(r.subject, r.reference, r.metric): r for r in evaluated(store, clean, samples)}
    space = pixels_of(store.image_shape)
    for reference, whole in (("clean-half", clean), ("measurements-half", store)):
        order = random_order(whole)
        first, second = (
            FeatureSet(space.dim).update(space(whole.images(rows)))
            for rows in (order[:half], order[half : 2 * half])
        )  # fmt: skip
        for name, (estimate, _) in measure(first, second, space, METRICS).items():
            row = found["real", reference, name]
            assert (
                row.value == pytest.approx(estimate.value, rel=1e-5)
                and row.n == half
                and row.std == pytest.approx(estimate.std, rel=1e-4)
            )
    order = random_order(store)
    ours = FeatureSet(space.dim).update(space(generator().sample(half).clamp(-1, 1)))
    theirs = FeatureSet(space.dim).update(space(clean.images(random_order(clean)[half : 2 * half])))
    for name, (estimate, _) in measure(ours, theirs, space, METRICS).items():
        assert found["student", "clean-half", name].value == pytest.approx(estimate.value, rel=1e-5)
        assert found["student", "clean-half", name].n == half
        assert found["student", "clean", name].n == samples
    assert ("measurements", "clean-half", "frechet") in found and (
        "measurements",
        "measurements-half",
        "frechet",
    ) not in found


def test_all_rows_of_a_half_compare_and_none_with_the_whole(tmp_path: Path) -> None:
    store, clean = stores(tmp_path, 121)
    table = compare(evaluated(store, clean, 121))
    assert {c.key.reference for c in table.quality} == {"clean", "measurements"}
    assert {c.key.reference for c in table.real} == {"clean-half", "measurements-half"}
    assert all("real" in column.values and "student" in column.values for column in table.real)
    assert "real" not in table.subjects


def test_few_images_have_no_halves(tmp_path: Path) -> None:
    store, clean = stores(tmp_path, 39)
    assert {r.reference for r in evaluated(store, clean, 50)} == {"clean", "measurements"}


def test_parts_of_a_stream_are_those_of_their_places() -> None:
    stream, places = torch.arange(50.0)[:, None], [range(50), range(7), range(7, 14), range(0)]
    for size in (1, 3, 7, 50):
        parts = Parts(1, places)
        for batch in stream.split(size):
            parts.update(batch)
        for place, known in zip(places, parts.sets, strict=True):
            assert known.kept[:, 0].tolist() == list(place) and known.n == len(place)
    second = Parts(1, places, first=10)  # of a process whose share begins there
    second.update(stream[10:])
    assert [known.n for known in second.sets] == [40, 0, 4, 0]


def test_the_file_keeps_halves_apart(tmp_path: Path) -> None:
    rows = [*results(PIXELS), *results({"real": 0.1, "student": 0.4}, reference="clean-half")]
    save_results(tmp_path / "metrics.json", rows)
    data = json.loads((tmp_path / "metrics.json").read_text())
    assert {row["reference"] for row in data["results"]} == {"clean"}
    assert {row["reference"] for row in data["halves"]} == {"clean-half"}
    assert load_results(tmp_path / "metrics.json").results == rows


HALF = {"real": 0.10, "teacher-full": 0.40, "teacher-truncated": 0.16, "student": 0.05}
DENSE = {"real": 0.98, "teacher-full": 0.40, "teacher-truncated": 1.40, "student": 1.0}


def halves() -> list[Result]:
    return [
        *results(PIXELS),
        *results(HALF, reference="clean-half", std=0.01),
        *results(DENSE, reference="clean-half", std=0.05, metric="density"),
    ]


def test_distances_have_a_sign_and_what_goes_beyond_real_images_a_mark() -> None:
    frechet, density = compare(halves()).real
    assert [distance(frechet, s) for s in HALF if s != "real"] == ["+0.300", "+0.0600", f"−0.0500 {BEYOND}"]
    assert [distance(density, s) for s in DENSE if s != "real"] == ["−0.580", f"+0.420 {BEYOND}", "+0.0200"]
    assert nearest(frechet) == {"student"} and nearest(density) == {"student"}
    assert distance(frechet, "l1-edm") == "–" and not beyond(frechet, "l1-edm")


def test_the_verdict_says_how_far_each_subject_is_and_what_is_too_good() -> None:
    verdict = judge(halves(), 10, NOISE)
    notes = " ".join(verdict.notes)
    assert "real images are at 0.100 ± 0.010; from there teacher-full +0.300, teacher-truncated +0.0600" in notes
    assert f"student −0.0500 {BEYOND}" in notes
    assert (
        "Better than real images, to clean: teacher-truncated in Density (pixels); student in Fréchet (pixels)."
        in notes
    )
    assert verdict.wins is True and "metrics" not in verdict.answer  # halves count in no tally
    text = printed(summary(halves(), verdict))
    assert "from real images" in text and "+0.0600" in text
    assert "from real images" not in printed(summary(results(PIXELS), judge(results(PIXELS), 10, NOISE)))
