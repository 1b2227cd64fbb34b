"""Clean images to measurements: the laws of a store, on digits and on a corruption that only this test knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from restill.acquisition import corrupt_images
from restill.core.errors import UserError
from restill.core.tensors import right_broadcast
from restill.corruption import AdditiveNoise, CompleteOperator, Corruption, CustomCorruption, Mask, Mri, WithoutGaps
from restill.io import ImageSource, array_source, digits, open_images
from restill.store import Store, open_store
from restill.store.reference import Reference, open_reference
from restill.store.statistics import estimate_power, estimate_sigma_data

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class MaskOperator(CompleteOperator):
    mask: Tensor  # [n, 1, H, W]
    gain: float

    def apply(self, x: Tensor) -> Tensor:
        return self.gain * self.mask * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.apply(y)


class PixelMask(CustomCorruption, WithoutGaps, kind="test-store-pixel-mask"):
    keep: float = 0.5
    gain: float = 1.0

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> MaskOperator:
        mask = torch.rand(n, 1, *shape[1:], generator=generator) < self.keep
        return MaskOperator(self.draw_sigma_n(n, generator), mask, self.gain)


@dataclass(frozen=True)
class RowMean(CompleteOperator):
    def apply(self, x: Tensor) -> Tensor:
        return x.mean(-1)

    def adjoint(self, y: Tensor) -> Tensor:
        raise NotImplementedError


class Projection(CustomCorruption, WithoutGaps, kind="test-store-projection"):
    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> RowMean:
        return RowMean(self.draw_sigma_n(n, generator))


def images(n: int = 20, shape: tuple[int, ...] = (6, 9)) -> ImageSource:
    return array_source(RNG.integers(0, 256, (n, *shape), dtype=np.uint8))


def everything(store: Store | Reference) -> Tensor:
    return store.stored(torch.arange(len(store)))


@pytest.mark.parametrize("sigma_n", [0.1, 0.5])
def test_the_noise_is_white_gaussian_of_sigma_n(tmp_path: Path, sigma_n: float) -> None:
    store = corrupt_images(digits(), AdditiveNoise(sigma_n=sigma_n), tmp_path / "y", tmp_path / "x", seed=1)
    x = torch.tensor(np.stack(list(digits()))) / 8 - 1
    noise = (everything(store) - x).double() / sigma_n
    n = noise.numel()  # 115,008; all bounds are 5 standard errors
    assert n == 1797 * 64
    assert abs(noise.std().item() - 1) < 5 / math.sqrt(2 * n)
    assert abs(noise.mean().item()) < 5 / math.sqrt(n)
    assert abs((noise**4).mean().item() - 3) < 5 * math.sqrt(96 / n)
    for shift in ((0, 1), (1, 0)):  # neighbours are independent, and so are consecutive images
        assert abs((noise * noise.roll(shift, (-2, -1))).mean().item()) < 5 / math.sqrt(n)
    assert abs((noise * noise.roll(1, 0)).mean().item()) < 5 / math.sqrt(n)
    torch.testing.assert_close(everything(open_reference(tmp_path / "x")), x)


def test_levels_are_drawn_per_sample_and_kept(tmp_path: Path) -> None:
    law = AdditiveNoise(sigma_n=(0.0, 0.3), weights=(0.25, 0.75))
    store = corrupt_images(digits(), law, tmp_path / "y", tmp_path / "x", seed=2)
    noise = everything(store) - everything(open_reference(tmp_path / "x"))
    clean = store.sigma_n == 0
    assert abs(clean.double().mean().item() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 1797)
    assert noise[clean].abs().max() == 0
    torch.testing.assert_close(noise[~clean].std(), torch.tensor(0.3), rtol=5 / math.sqrt(2 * 1200 * 64), atol=0)
    summary = store.manifest.sigma_n
    assert (summary.min, summary.max, summary.estimated) == (0, pytest.approx(0.3), False)
    assert summary.mean == pytest.approx(store.sigma_n.mean().item())
    assert store.corruption == law


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    source = images()
    law = PixelMask(sigma_n=0.1)
    stores = [
        corrupt_images(source, law, tmp_path / f"y{i}", tmp_path / f"x{i}", seed) for i, seed in enumerate((7, 7, 8))
    ]
    hashes = [[shard.sha256 for shard in store.manifest.shards] for store in stores]
    assert hashes[0] == hashes[1] and hashes[0] != hashes[2]
    files = [(tmp_path / name / "shard-00000.safetensors").read_bytes() for name in ("y0", "y1", "y2", "x0", "x2")]
    assert files[0] == files[1] != files[2] and files[3] == files[4]
    assert stores[0].fingerprint == stores[1].fingerprint != stores[2].fingerprint


def test_a_measurement_depends_on_seed_and_index_alone(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (600, 8, 8), dtype=np.uint8)  # more than one block
    law = PixelMask(sigma_n=0.2)
    long = corrupt_images(array_source(array), law, tmp_path / "long", None, seed=3, shard_bytes=1000)
    short = corrupt_images(array_source(array[:5]), law, tmp_path / "short", None, seed=3)
    torch.testing.assert_close(everything(long)[:5], everything(short), rtol=0, atol=0)
    assert len(long.manifest.shards) > 1
    operator = long.batch(torch.arange(600)).operator
    assert isinstance(operator, MaskOperator) and len(operator.mask.flatten(1).unique(dim=0)) == 600


def test_an_operator_comes_back_with_its_measurement(tmp_path: Path) -> None:
    source = images(40, (6, 9, 3))
    law = PixelMask(keep=0.3, gain=2.0)
    store = corrupt_images(source, law, tmp_path / "y", tmp_path / "x", seed=0, shard_bytes=1000)
    store, clean = open_store(tmp_path / "y"), open_reference(tmp_path / "x")
    index = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:17]
    batch, x = store.batch(index), clean.images(index)
    assert isinstance(batch.operator, MaskOperator) and batch.operator.mask.dtype == torch.bool
    assert 0.2 < batch.operator.mask.float().mean() < 0.4 and len(batch.operator) == 17
    assert len({tuple(mask.flatten().tolist()) for mask in batch.operator.mask}) == 17
    torch.testing.assert_close(batch.operator.apply(x), batch.y, rtol=0, atol=0)
    assert batch.y.abs().max() > 1 and (batch.y != x).float().mean() > 0.5
    assert store.corruption == law


def test_no_clean_pixel_reaches_the_measurements(tmp_path: Path) -> None:
    store = corrupt_images(images(), PixelMask(keep=0.5), tmp_path / "y", tmp_path / "x", seed=0)
    batch, x = store.batch(torch.arange(20)), everything(open_reference(tmp_path / "x"))
    assert isinstance(batch.operator, MaskOperator)
    hidden = ~batch.operator.mask
    assert batch.y[hidden].abs().max() == 0 and x[hidden].abs().max() > 0.5
    assert set(store._shards[0]) == {"y", "sigma_n", "operator.mask"}


def test_an_observation_of_another_shape(tmp_path: Path) -> None:
    store = corrupt_images(images(), Projection(sigma_n=0.0), tmp_path / "y", tmp_path / "x", seed=0)
    assert store.shape == (1, 6) and store.image_shape == (1, 6, 9)
    torch.testing.assert_close(everything(store), everything(open_reference(tmp_path / "x")).mean(-1))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_physical_values_come_back_for_any_channels_and_odd_shapes(tmp_path: Path, channels: int) -> None:
    array = RNG.integers(0, 256, (5, 7, 11, channels), dtype=np.uint8)
    corrupt_images(array_source(array), AdditiveNoise(sigma_n=1.0), tmp_path / "y", tmp_path / "x", seed=0)
    clean = open_reference(tmp_path / "x")
    x = everything(clean)
    assert clean.shape == (channels, 7, 11) and -1 <= x.min() < -0.9 and 0.9 < x.max() <= 1
    physical = clean.to_physical(x).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(physical, array, rtol=0, atol=255 * 2**-23)


def test_16_bit_files_come_back_to_the_last_bit(tmp_path: Path) -> None:
    array = RNG.integers(300, 40_000, (4, 6, 9), dtype=np.uint16)
    (tmp_path / "png").mkdir()
    for i, image in enumerate(array):
        Image.fromarray(image).save(tmp_path / "png" / f"{i}.png")
    corrupt_images(open_images(tmp_path / "png"), AdditiveNoise(), tmp_path / "y", tmp_path / "x", seed=0)
    clean = open_reference(tmp_path / "x")
    assert clean.manifest.value_range == (array.min(), array.max())
    x = everything(clean)
    assert (x.min(), x.max()) == (-1, 1)
    np.testing.assert_array_equal(clean.to_physical(x).round().numpy()[:, 0], array)


def test_labels_go_to_both_stores(tmp_path: Path) -> None:
    source = digits()
    store = corrupt_images(source, AdditiveNoise(sigma_n=0.1), tmp_path / "y", tmp_path / "x", seed=0)
    for opened in (store, open_reference(tmp_path / "x")):
        assert opened.labels is not None and tuple(opened.labels.tolist()) == source.labels
        assert opened.num_classes == 10 and opened.manifest.classes == tuple("0123456789")
    labels = store.batch(torch.tensor([5, 0])).labels
    assert labels is not None and tuple(labels.tolist()) == (source.labels[5], source.labels[0])


def test_a_reference_is_not_for_training(tmp_path: Path) -> None:
    corrupt_images(images(), AdditiveNoise(), tmp_path / "y", tmp_path / "x", seed=0)
    clean = open_reference(tmp_path / "x")
    assert clean.manifest.kind == "reference" and not hasattr(clean, "batch")
    assert clean.num_classes == 0 and clean.labels is None
    for wrong, open_it, words in (
        ("x", open_store, "holds clean images; a store of measurements is needed here"),
        ("y", open_reference, "holds measurements; a store of clean images is needed here"),
    ):
        with pytest.raises(UserError) as caught:
            open_it(tmp_path / wrong)
        assert str(caught.value) == f"{tmp_path / wrong}: {words}"


def test_a_reference_fits_and_pairs_with_its_own_measurements_alone(tmp_path: Path) -> None:
    store = corrupt_images(images(), AdditiveNoise(sigma_n=0.1), tmp_path / "y", tmp_path / "x", seed=0)
    own = open_reference(tmp_path / "x", store)
    assert own.pairs_with(store)
    again = corrupt_images(images(), AdditiveNoise(sigma_n=0.1), tmp_path / "y2", tmp_path / "x2", seed=1)
    assert not own.pairs_with(again)
    corrupt_images(images(shape=(6, 8)), AdditiveNoise(), tmp_path / "y3", tmp_path / "x3", seed=0)
    with pytest.raises(UserError, match=r"x3: holds images \[1, 6, 8\], but the measurements are of \[1, 6, 9\]"):
        open_reference(tmp_path / "x3", store)


def test_the_size_of_a_store_counts_all_that_belongs_to_a_sample(tmp_path: Path) -> None:
    store = corrupt_images(images(), PixelMask(keep=0.5), tmp_path / "y", tmp_path / "x", seed=0)
    y, sigma_n, mask = 4 * 6 * 9, 4, 6 * 9  # bytes of one sample
    assert store.nbytes == 20 * (y + sigma_n + mask)
    assert open_reference(tmp_path / "x").nbytes == 20 * (y + sigma_n)


def test_provenance_and_progress(tmp_path: Path) -> None:
    done: list[int] = []
    (tmp_path / "scans").mkdir()
    Image.fromarray(RNG.integers(0, 256, (6, 9), dtype=np.uint8)).save(tmp_path / "scans" / "a.png")

    def advance(done_now: int = 0, note: str = "") -> None:
        done.append(done_now)

    source = open_images(tmp_path / "scans")
    corrupt_images(source, AdditiveNoise(), tmp_path / "y", None, seed=5, advance=lambda done: advance(done))
    manifest = open_store(tmp_path / "y").manifest
    assert (manifest.provenance.source, manifest.provenance.seed) == ("scans", 5) and sum(done) == 1
    assert str(tmp_path) not in (tmp_path / "y" / "manifest.json").read_text()


@pytest.mark.parametrize("exists", ["y", "x"])
def test_nothing_is_overwritten_and_no_image_read_first(tmp_path: Path, exists: str) -> None:
    source = images()

    def unreadable() -> None:
        raise AssertionError("an image was read")

    source = ImageSource("a", source.shape, 20, None, None, None, unreadable)  # type: ignore[arg-type]
    (tmp_path / exists).mkdir()
    with pytest.raises(UserError, match=f"{exists}: exists already"):
        corrupt_images(source, AdditiveNoise(), tmp_path / "y", tmp_path / "x", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == [exists]


def test_both_stores_or_neither(tmp_path: Path) -> None:
    array = RNG.random((400, 8, 8)).astype(np.float32)
    array[-1, 0, 0] = np.nan
    source = array_source(array, value_range=(0, 1))
    with pytest.raises(UserError, match="image 399"):
        corrupt_images(source, AdditiveNoise(), tmp_path / "y", tmp_path / "x", seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("written", range(4))
def test_both_stores_or_neither_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    files: list[int] = []

    def fsync(handle: int) -> None:
        files.append(handle)
        if len(files) > written:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(UserError, match="No space left"):
        corrupt_images(images(), AdditiveNoise(), tmp_path / "y", tmp_path / "x", seed=0)
    assert len(files) > written and not list(tmp_path.iterdir())


def test_mistakes_in_the_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be two stores"):
        corrupt_images(images(), AdditiveNoise(), tmp_path / "y", tmp_path / "y", seed=0)
    flat = array_source(np.full((3, 8, 8), 5.0))
    with pytest.raises(UserError, match="all values are 5"):
        corrupt_images(flat, AdditiveNoise(), tmp_path / "y", None, seed=0)


def test_a_corruption_that_diverges_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sample 0 would hold"):
        corrupt_images(images(), PixelMask(gain=1e300), tmp_path / "y", None, seed=0)
    assert not list(tmp_path.iterdir())


def test_noise_levels_of_one_batch_follow_the_order(tmp_path: Path) -> None:
    store = corrupt_images(images(), AdditiveNoise(sigma_n=(0.1, 0.2, 0.3)), tmp_path / "y", None, seed=0)
    index = torch.tensor([7, 3, 3, 19])
    operator = store.batch(index).operator
    assert len(set(store.sigma_n.tolist())) == 3
    torch.testing.assert_close(operator.sigma_n, store.sigma_n[index], rtol=0, atol=0)
    assert right_broadcast(operator.sigma_n, store.batch(index).y).shape == (4, 1, 1, 1)


@pytest.mark.parametrize("corruption", [AdditiveNoise(sigma_n=(0.0, 0.5)), Mask(p=0.6, sigma_n=0.2)])
def test_the_deviation_of_clean_data_from_measurements(tmp_path: Path, corruption: Corruption) -> None:
    """Of white images in [-1, 1]: that of the clean values, to five standard errors of about 1 in 300."""
    clean = np.random.default_rng(0).normal(0, 1, (600, 12, 12))
    source = array_source(clean, "white", value_range=(-4.0, 4.0))
    store = corrupt_images(source, corruption, tmp_path / "y", None, seed=0)
    assert estimate_sigma_data(store) == pytest.approx(clean.std() / 4, rel=0.03)


def test_a_spectrum_is_of_complex_images_alone(tmp_path: Path) -> None:
    """White complex images of one coil have a flat spectrum; others none."""
    clean = np.random.default_rng(0).normal(0, 0.2, (400, 2, 12, 12))
    source = array_source(clean, "white", value_range=(-1.0, 1.0), layout="NCHW")
    store = corrupt_images(source, Mri(acceleration=2, acs=2, coils=1), tmp_path / "y", None, seed=0)
    power = estimate_power(store)
    assert power is not None and np.allclose(power[1:], 0.04, rtol=0.1)
    assert estimate_power(corrupt_images(source, AdditiveNoise(sigma_n=0.1), tmp_path / "x", None, seed=0)) is None
