"""Real measurements: units of sigma_n, ranges, and the law in the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from restill.acquisition import DataSettings, import_measurements
from restill.core.errors import UserError
from restill.corruption import AdditiveNoise
from restill.io import ImageSource, array_source
from restill.store import Store, open_store

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 8, 10), dtype=np.uint8)


def stated(**data: Any) -> DataSettings:
    return DataSettings(content="measurements", **data)


def everything(store: Store) -> Tensor:
    return store.batch(torch.arange(len(store))).y


def floats(n: int = 50) -> ImageSource:
    return array_source(RNG.normal(500, 100, (n, 8, 10)).astype(np.float32), "scans")


@pytest.mark.parametrize(("unit", "expected"), [("data", 0.25 / 127.5), ("normalised", 0.25)])
def test_sigma_n_is_in_the_units_of_the_files_unless_said(tmp_path: Path, unit: Any, expected: float) -> None:
    store = import_measurements(array_source(BYTES), tmp_path / "y", 0.25, data=DataSettings(sigma_unit=unit))
    assert store.sigma_n.shape == (6,) and store.sigma_n.numpy() == pytest.approx(expected)
    assert isinstance(store.corruption, AdditiveNoise) and store.corruption.levels == pytest.approx((expected,))
    np.testing.assert_allclose(everything(store)[:, 0], BYTES / 127.5 - 1, atol=1e-6)
    assert store.manifest.provenance.seed is None and store.manifest.sigma_n.estimated is False


def test_floats_take_percentiles_unclipped_and_come_back(tmp_path: Path) -> None:
    source = floats()
    physical = np.stack(list(source))
    store = import_measurements(source, tmp_path / "y", 10.0)
    np.testing.assert_allclose(store.manifest.value_range, np.percentile(physical, (0.1, 99.9)), rtol=1e-5)
    y = everything(store)
    assert y.min() < -1 and y.max() > 1  # nothing was clipped
    np.testing.assert_allclose(store.to_physical(y), physical, rtol=3e-7)
    low, high = store.manifest.value_range
    assert store.sigma_n[0].item() == pytest.approx(10 / ((high - low) / 2))


def test_percentiles_of_many_values_are_estimated_from_a_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restill.acquisition.value_range._SAMPLED_VALUES", 50 * 60)
    source = floats()
    stores = [import_measurements(source, tmp_path / f"y{i}", 1.0) for i in range(2)]
    assert stores[0].fingerprint == stores[1].fingerprint
    low, high = stores[0].manifest.value_range  # percentiles of N(500, 100): 500 -+ 309, from 3,000 values
    assert low == pytest.approx(500 - 309, abs=60) and high == pytest.approx(500 + 309, abs=60)


def test_a_stated_range_wins(tmp_path: Path) -> None:
    store = import_measurements(array_source(BYTES), tmp_path / "y", 0.0, data=stated(range=(0, 100)))
    np.testing.assert_allclose(everything(store)[:, 0], BYTES / 50 - 1, atol=1e-6)


def test_one_level_per_image_becomes_the_law(tmp_path: Path) -> None:
    sigma_n = [10, 20, 20, 10, 10, 40]
    store = import_measurements(array_source(BYTES), tmp_path / "y", sigma_n)
    np.testing.assert_allclose(store.sigma_n * 127.5, sigma_n, rtol=1e-6)
    law = open_store(tmp_path / "y").corruption
    np.testing.assert_allclose(np.array(law.levels) * 127.5, [10, 20, 40])
    assert law.weights == pytest.approx((3 / 6, 2 / 6, 1 / 6))
    operator = store.batch(torch.tensor([5, 0])).operator
    assert (operator.sigma_n * 127.5).numpy() == pytest.approx([40, 10])


def test_many_levels_are_256_quantiles(tmp_path: Path) -> None:
    sigma_n = RNG.gamma(2.0, 0.1, 1000)
    source = array_source(RNG.integers(0, 256, (1000, 6, 6), dtype=np.uint8))
    store = import_measurements(source, tmp_path / "y", sigma_n, data=DataSettings(sigma_unit="normalised"))
    law = store.corruption
    assert len(law.levels) == 256 and law.weights is not None and sum(law.weights) == pytest.approx(1)
    assert (min(law.levels), law.sigma_max) == (sigma_n.min(), sigma_n.max())
    assert np.average(law.levels, weights=law.weights) == pytest.approx(sigma_n.mean(), rel=0.01)
    assert np.average(np.square(law.levels), weights=law.weights) == pytest.approx(np.square(sigma_n).mean(), rel=0.02)
    np.testing.assert_allclose(store.sigma_n, sigma_n, rtol=1e-6)  # the samples keep their own


@pytest.mark.parametrize("suffix", ["npy", "txt", "csv"])
def test_levels_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sigma.{suffix}"
    levels = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.65])
    if suffix == "npy":
        np.save(path, levels)
    else:
        path.write_text((", " if suffix == "csv" else "\n").join(map(str, levels)))
    store = import_measurements(array_source(BYTES), tmp_path / "y", path, data=DataSettings(sigma_unit="normalised"))
    np.testing.assert_allclose(store.sigma_n, levels, rtol=1e-6)
    path.write_text("loud")
    with pytest.raises(UserError, match=rf"sigma\.{suffix}"):
        import_measurements(array_source(BYTES), tmp_path / "z", path)


def test_noise_larger_than_all_variation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sigma_n 101 exceeds the standard deviation of the measurements"):
        import_measurements(floats(500), tmp_path / "y", 101.0)
    assert not list(tmp_path.iterdir())
    assert len(import_measurements(floats(500), tmp_path / "y", 98.0)) == 500


@pytest.mark.parametrize(
    ("sigma_n", "words"),
    [
        (None, "sigma_n is missing: state"),
        ([1.0, 2.0], "2 values for 6 images"),
        (np.ones((6, 1)), "6 values for 6 images|one per image"),
        (-1.0, "value 0 is -1"),
        ([1, 1, 1, float("nan"), 1, 1], "value 3 is nan"),
        (float("inf"), "value 0 is inf"),
        ("loud", "must be numbers"),
        ([], "0 values for 6 images"),
        (Path("missing.txt"), r"missing\.txt: no such file"),
    ],
)
def test_levels_that_are_refused(tmp_path: Path, sigma_n: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        import_measurements(array_source(BYTES), tmp_path / "y", sigma_n)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value_range", [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_ranges_that_are_refused(tmp_path: Path, value_range: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"must be below the second|data\.range\[\d\]: must be a finite number"):
        import_measurements(array_source(BYTES), tmp_path / "y", 1.0, data=stated(range=value_range))


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.sigma_unit: must be 'data' or 'normalised', not 'pixels'"):
        DataSettings(sigma_unit="pixels")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"state the range in the units of the files"):
        import_measurements(array_source(np.zeros((4, 8, 8))), tmp_path / "y", 1.0)
    (tmp_path / "y").mkdir()
    with pytest.raises(UserError, match="exists already"):
        import_measurements(array_source(BYTES), tmp_path / "y", 1.0)
