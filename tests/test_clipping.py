"""Images are evaluated as they would be seen: clipped to what their files can hold, where that is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from restill.acquisition import corrupt_images, import_measurements
from restill.acquisition.settings import DataSettings
from restill.core.errors import UserError
from restill.core.processes import ALONE
from restill.corruption import AdditiveNoise, register_operator
from restill.diffusion import NetworkDenoiser, Noisy
from restill.generator import Generator
from restill.io import ImageSource, array_source, digits
from restill.metrics import (
    Evaluator,
    Proximal,
    Result,
    feature_moments,
    frechet_distance,
    pair_results,
    pixels_of,
    yardsticks_of,
)
from restill.metrics.settings import EvaluationSettings
from restill.metrics.speed import Speed
from restill.report.comparison import compare
from restill.store import Store, open_store
from restill.store.reference import Reference, open_reference
from test_generator import CONFIG
from tiny import images, tiny_denoiser

NOISE = AdditiveNoise(sigma_n=0.3)


def stores(folder: Path, source: ImageSource) -> tuple[Store, Reference]:
    store = corrupt_images(source, NOISE, folder / "store", folder / "clean", seed=0)
    return store, open_reference(folder / "clean", store)


def bytes_source(n: int = 80) -> ImageSource:
    return array_source(images(n), layout="NCHW")


def float_source(n: int = 80) -> ImageSource:
    return array_source(images(n).astype(np.float32) / 255, layout="NCHW")


class Beyond(NetworkDenoiser):
    """Draws noise that leaves [-1, 1]; clipped to it where `limit` is 1."""

    limit = 9.0

    def image(self, given: Noisy) -> Tensor:
        return (given.x_t / 2).clamp(-self.limit, self.limit)


def generator(limit: float = 9.0) -> Generator:
    denoiser = Beyond(tiny_denoiser().net, 1, 0.5)
    denoiser.limit = limit
    return Generator(denoiser, CONFIG)


def evaluated(store: Store, clean: Reference, limit: float) -> tuple[dict[tuple[str, str], float], Tensor, set[str]]:
    settings = EvaluationSettings(samples=100, seeds=(0,), metrics=("frechet", "precision", "coverage"))
    spaces = [pixels_of(store.image_shape)]
    yardsticks = [*yardsticks_of(clean, "clean", spaces, ALONE), *yardsticks_of(store, "measurements", spaces, ALONE)]
    evaluator = Evaluator(yardsticks, settings, ALONE, store)
    results, shown = evaluator.of_generated("student", generator(limit), Speed(1.0, (1.0,)), 20)
    results += evaluator.of_stored("measurements", store)
    values = {(r.subject + r.metric, r.reference): r.value for r in results}
    return values, shown, {r.clipping for r in results}


def test_images_of_8_bits_are_measured_as_if_they_had_been_clipped(tmp_path: Path) -> None:
    """Against clean images and against measurements, and in what the checks are given."""
    store, clean = stores(tmp_path, bytes_source())
    raw, shown, said = evaluated(store, clean, 9.0)
    clipped, _, _ = evaluated(store, clean, 1.0)
    assert raw == clipped and len(raw) == 18 and said == {"0 to 255"}
    assert shown.min() == -1 and shown.max() == 1


def test_floats_without_a_range_are_measured_as_they_are(tmp_path: Path) -> None:
    store, clean = stores(tmp_path, float_source())
    raw, shown, said = evaluated(store, clean, 9.0)
    clipped, _, _ = evaluated(store, clean, 1.0)
    assert said == {"none"} and shown.max() > 2
    for reference in ("clean", "measurements"):
        assert raw["studentfrechet", reference] > 1.2 * clipped["studentfrechet", reference]


def test_stored_images_are_clipped_only_where_they_are_judged(tmp_path: Path) -> None:
    """The same measurements, of a store that knows the range of its files and of one that does not."""
    store, clean = stores(tmp_path / "bytes", bytes_source())
    values, _, _ = evaluated(store, clean, 1.0)
    measured, truth = (each.images(torch.arange(len(store))) for each in (store, clean))
    assert measured.abs().max() > 1.5
    space = pixels_of(store.image_shape)
    known = feature_moments([truth], space)
    seen, raw = (frechet_distance(feature_moments([x], space), known) for x in (measured.clamp(-1, 1), measured))
    assert values["measurementsfrechet", "clean"] == pytest.approx(seen, rel=1e-6) and abs(raw / seen - 1) > 0.1
    pixels = pixels_of(store.image_shape)
    inside = generator(1.0).sample(60)  # proximal: the measurements keep their noise, which leaves the range
    assert Proximal(store, pixels, store.bounds)(inside, 0).value == Proximal(store, pixels)(inside, 0).value
    outside = generator(9.0).sample(60)
    assert Proximal(store, pixels, store.bounds)(outside, 0).value == Proximal(store, pixels)(inside, 0).value
    assert Proximal(store, pixels)(outside, 0).value != Proximal(store, pixels)(inside, 0).value


def test_pairs_are_compared_as_they_are_seen(tmp_path: Path) -> None:
    for source, factor in ((bytes_source(), 1.0), (float_source(), 4.0)):
        store, clean = stores(tmp_path / str(factor), source)
        truth = clean.images(torch.arange(20))
        white = torch.ones_like(truth) * 3
        [row] = pair_results({"student": white}, truth, ["psnr"], clean)
        seen = white if factor > 1 else white.clamp(-1, 1)
        errors = (seen - truth).double().square().flatten(1).mean(1)
        assert row.value == pytest.approx(float((10 * (4 / errors).log10()).mean()), rel=1e-6)
        assert row.clipping == store.clipping


def test_the_range_is_that_of_the_files(tmp_path: Path) -> None:
    sixteen = array_source(images(40).astype(np.uint16) * 200, layout="NCHW")
    known = {"bytes": bytes_source(40), "digits": digits()}
    for name, bounds in {"bytes": (0.0, 255.0), "digits": (0.0, 16.0)}.items():
        store, clean = stores(tmp_path / name, known[name])
        for opened in (open_store(store.path), clean):
            assert opened.manifest.file_range == bounds and opened.bounds == (-1.0, 1.0)
            assert opened.clipping == f"0 to {bounds[1]:g}"
    for name, source in {"floats": float_source(40), "16 bits": sixteen}.items():
        store, clean = stores(tmp_path / name, source)
        assert store.bounds is None and clean.bounds is None and store.clipping == "none"
        assert "file_range" not in (store.path / "manifest.json").read_text()


def of_range(low: float, high: float) -> DataSettings:
    return DataSettings(source="x", content="measurements", range=(low, high))


def test_a_stated_range_moves_the_bounds_and_measurements_of_another_kind_have_none(tmp_path: Path) -> None:
    imported = import_measurements(bytes_source(40), tmp_path / "stated", 20.0, of_range(50, 150))
    assert imported.bounds == (-2.0, 3.1) and imported.clipping == "0 to 255"
    floats = import_measurements(float_source(40), tmp_path / "floats", 0.1, of_range(0, 1))
    register_operator("twice", lambda x: 2 * x)
    twice = import_measurements(
        bytes_source(40), tmp_path / "twice", 20.0, corruption={"kind": "function", "name": "twice"}
    )
    assert twice.bounds is None and twice.clipping == "none"  # of the images that were measured nothing is known
    assert floats.bounds is None  # a range that a person states says how to scale, not what cannot be


def test_older_stores_of_8_bits_are_known_by_their_range(tmp_path: Path) -> None:
    for name, source, bounds in (("b", bytes_source(40), (-1.0, 1.0)), ("d", digits(), None)):
        store, _ = stores(tmp_path / name, source)
        path = store.path / "manifest.json"
        data = json.loads(path.read_text())
        del data["file_range"]
        path.write_text(json.dumps(data))
        assert open_store(store.path).bounds == bounds


def test_numbers_of_clipped_and_other_images_do_not_compare() -> None:
    common = {
        "metric": "frechet", "features": "pixels", "value": 1.0, "n": 10, "reference": "clean",
        "features_fingerprint": "f", "reference_fingerprint": "r",
    }  # fmt: skip
    rows = [Result(subject="student", clipping="0 to 255", **common), Result(subject="teacher-full", **common)]
    with pytest.raises(UserError, match=r"the range to which images are clipped \(0 to 255 and none\) differs"):
        compare(rows)
