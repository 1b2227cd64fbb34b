"""Complex images: what is seen of them, in stores, in distances, on pages and on disk; against numpy throughout."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from restill.acquisition import corrupt_images
from restill.checkpoint import load_network_config
from restill.checks import fit
from restill.checks.hidden import OPERATORS, operators_for
from restill.checks.likelihood import Likelihood, measurement_likelihood
from restill.core.errors import UserError
from restill.core.tensors import channels_to_complex, complex_to_channels, seeded
from restill.core.views import displayed, displayed_shape, magnitude, phase_colours
from restill.corruption import AdditiveNoise, Mri, Operator
from restill.generator import load_generator
from restill.io import array_source
from restill.metrics import (
    ClassifierFeatures,
    MagnitudeFeatures,
    PixelFeatures,
    as_displayed,
    load_results,
    pixels_of,
    recorrupted,
)
from restill.restoration import shows_image
from restill.runs import Run, open_run, run, trained
from restill.runs.selecting import select
from restill.store import Batch, Store, open_store
from restill.store.reference import open_reference
from tiny import images, tiny_recipe, tiny_store

Cli = Callable[..., str]
SIZE, SAMPLES, SCALE = 16, 80, 50.0
LAW = {"kind": "mri", "acceleration": 3, "acs": 2, "coils": 2, "sigma_n": 0.05}
SUBJECTS = ("teacher-full", "teacher-truncated", "student")


def waves(n: int, seed: int = 0) -> NDArray[np.complex128]:
    """Complex pictures `[n, H, W]` with smooth phases, of magnitudes up to 50."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    a, b, c = rng.uniform(-1, 1, (3, n, 1, 1))
    bright = SCALE * images(n, (1, SIZE, SIZE), seed)[:, 0] / 255
    return np.asarray(bright * np.exp(1j * (3 * a + 2 * b * rows + 2 * c * columns)))


LARGEST = np.abs(waves(150)).max()


def as_channels(x: NDArray[np.complex128]) -> NDArray[np.float32]:
    """`[n, H, W]` complex to `[n, 2, H, W]`."""
    return np.stack([x.real, x.imag], axis=1).astype(np.float32)


def as_numbers(x: Tensor) -> NDArray[np.complex128]:
    """`[n, 2, H, W]` to `[n, H, W]` complex."""
    values = x.double().numpy()
    return np.asarray(values[:, 0] + 1j * values[:, 1])


def zero_filled(batch: Batch) -> NDArray[np.complex128]:
    """`S^H F^-1 y` of k-space, without a line of the library."""
    y, maps = (value.double().numpy() for value in (batch.y, batch.operator.parameters()["maps"]))
    coils = np.fft.ifftshift(y[:, ::2] + 1j * y[:, 1::2], axes=(-2, -1))
    coils = np.fft.fftshift(np.fft.ifft2(coils, norm="ortho"), axes=(-2, -1))
    return np.asarray(((maps[..., 0] - 1j * maps[..., 1]) * coils).sum(axis=1))


def frechet(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Squared Frechet distance of two sets `[n, ...]`, by the eigenvalues of the product of their covariances."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    p, q = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    cross = np.sqrt(np.clip(np.linalg.eigvals(p @ q).real, 0, None)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(p) + np.trace(q) - 2 * cross)


def random_channels(n: int, channels: int = 2, size: int = 6) -> Tensor:
    return torch.randn(n, channels, size, size, generator=seeded("complex"), dtype=torch.float64) / 2


def test_magnitudes_span_what_real_images_span() -> None:
    x = random_channels(5, 6)
    values = x.numpy()
    expected = 2 * np.hypot(values[:, ::2], values[:, 1::2]) - 1
    np.testing.assert_allclose(magnitude(x).numpy(), expected, rtol=1e-12)
    assert torch.equal(displayed(x, is_complex=True), magnitude(x)) and displayed(x, is_complex=False) is x
    assert displayed_shape((6, 7, 8), is_complex=True) == (3, 7, 8) and displayed_shape(
        (6, 7, 8), is_complex=False
    ) == (6, 7, 8)
    assert magnitude(torch.zeros(1, 2, 1, 1)).item() == -1 and magnitude(torch.ones(1, 2, 1, 1)).item() > 1
    with pytest.raises(ValueError, match="even number of channels"):
        magnitude(torch.zeros(1, 3, 4, 4))


def test_phases_are_colours_without_a_seam() -> None:
    x = random_channels(4, 4)
    values = x.numpy()[:, ::2] + 1j * x.numpy()[:, 1::2]
    bright = np.sqrt(np.minimum(np.abs(values), 1))[:, :, None]
    shift = 2 * np.pi / 3 * np.arange(3)[:, None, None]
    rgb = bright * (1 + np.cos(np.angle(values)[:, :, None] - shift)) / 2  # [n, k, 3, H, W]
    expected = 2 * np.concatenate([rgb[:, 0], rgb[:, 1]], axis=-1) - 1
    np.testing.assert_allclose(phase_colours(x).numpy(), expected, atol=1e-12)

    def colour(number: complex) -> list[float]:
        one = torch.tensor([number.real, number.imag], dtype=torch.float64)[None, :, None, None]
        return [float(value + 1) / 2 for value in phase_colours(one).flatten()]

    assert colour(1) == pytest.approx([1, 0.25, 0.25]) and colour(-1) == pytest.approx([0, 0.75, 0.75])
    assert colour(-1 + 1e-9j) == pytest.approx(colour(-1 - 1e-9j), abs=1e-8)  # where atan2 jumps
    turned = colour(0.3 * np.exp(1j * (0.7 + 2 * np.pi / 3)))
    assert turned == pytest.approx(np.roll(colour(0.3 * np.exp(0.7j)), 1))
    assert max(colour(0)) == 0 and max(colour(1e-4j)) < 0.01  # air is dark whatever its phase
    assert colour(5) == colour(1)


def test_features_of_complex_images_are_those_of_magnitudes() -> None:
    x = random_channels(9)
    phase = random_channels(9)[:, :1]
    turned = complex_to_channels(channels_to_complex(x) * torch.polar(torch.ones_like(phase), phase))
    space = pixels_of((2, 6, 6), is_complex=True)
    assert isinstance(space, MagnitudeFeatures) and (space.name, space.dim, space.resize) == ("pixels", 36, "none")
    np.testing.assert_allclose(space(x).numpy(), magnitude(x).flatten(1).numpy(), rtol=1e-12)
    assert torch.allclose(space(x), space(turned), atol=1e-12) and not torch.allclose(x, turned, atol=1e-2)
    assert space.fingerprint != PixelFeatures((1, 6, 6)).fingerprint != PixelFeatures((2, 6, 6)).fingerprint
    assert "not phases" in space.shows and isinstance(space.of, PixelFeatures) and space.of.pool == 1
    assert isinstance(pixels_of((2, 6, 6)), PixelFeatures)
    assert pixels_of((2, 128, 128), is_complex=True).name == "pixels/2"  # 16,384 magnitudes, not 32,768 numbers
    plain = PixelFeatures((1, 6, 6))
    assert as_displayed(plain, is_complex=False) is plain
    with pytest.raises(UserError, match="real images of shape"):
        space(torch.zeros(2, 4, 6, 6))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """20 measurements, and beside them their reference."""
    folder = tmp_path_factory.mktemp("store")
    source = array_source(as_channels(waves(20)), layout="NCHW")
    return corrupt_images(source, Mri(acceleration=3, acs=2, coils=2, sigma_n=0.05), folder / "y", folder / "x", seed=0)


def test_a_store_knows_that_its_images_are_complex(store: Store, tmp_path: Path) -> None:
    clean = open_reference(store.path.parent / "x")
    for each in (store, clean):
        manifest = json.loads((each.path / "manifest.json").read_text())
        assert each.is_complex and manifest["values"] == "complex" and each.manifest.normalisation.offset == 0
        assert each.displayed_shape == (1, SIZE, SIZE) and each.image_shape == (2, SIZE, SIZE)
    largest = np.abs(waves(20)).max()
    assert clean.manifest.value_range == pytest.approx((-largest, largest), rel=1e-6)
    y = clean.images(torch.arange(20))
    assert float(np.abs(as_numbers(y)).max()) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(clean.to_physical(y).numpy(), as_channels(waves(20)), atol=1e-5 * SCALE)
    real = tiny_store(tmp_path / "real")
    assert not real.is_complex and real.displayed_shape == real.image_shape == (1, 8, 8)
    assert "values" not in (real.path / "manifest.json").read_text()  # as versions before complex images write and read


def test_a_manifest_of_before_is_of_real_images(store: Store, tmp_path: Path) -> None:
    real = tiny_store(tmp_path / "real")
    path = real.path / "manifest.json"
    data = json.loads(path.read_text())
    for values in ("real", "complex", "quaternion"):
        path.write_text(json.dumps({**data, "values": values}))
        if values == "real":
            assert not open_store(real.path).is_complex
        else:  # one channel, or no word that is known
            with pytest.raises(UserError, match=r"manifest\.json: .*even number of channels|values: .*'complex'"):
                open_store(real.path)


def test_only_pairs_of_channels_are_complex(tmp_path: Path) -> None:
    odd = array_source(images(4, (3, SIZE, SIZE)), layout="NCHW")
    with pytest.raises(UserError, match="images of 3 channels; MRI is simulated from magnitudes"):
        corrupt_images(odd, Mri(acs=2, coils=1), tmp_path / "y", None, seed=0)
    black = array_source(np.zeros((4, 2, SIZE, SIZE), np.float32), layout="NCHW")
    with pytest.raises(UserError, match="all values are 0"):
        corrupt_images(black, Mri(acs=2, coils=1), tmp_path / "y", None, seed=0)


def test_real_images_are_no_reference_of_complex_ones(store: Store, tmp_path: Path) -> None:
    source = array_source(as_channels(waves(20)), layout="NCHW")
    corrupt_images(source, AdditiveNoise(sigma_n=0.1), tmp_path / "y", tmp_path / "x", seed=0)
    with pytest.raises(UserError, match="holds real images, but the measurements are of complex ones"):
        open_reference(tmp_path / "x", store)


def test_large_samples_are_looked_at_a_few_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.block == 1024
    monkeypatch.setattr("restill.store.samples._NUMBERS", 3 * 4 * SIZE**2)
    assert store.block == 3
    monkeypatch.setattr("restill.store.samples._NUMBERS", 1)
    assert store.block == 1
    assert operators_for(8 * 64 * 64) == OPERATORS == 256 and 16 <= operators_for(32 * 320 * 320) < 32


@pytest.mark.parametrize("same_maps", [False, True])
def test_squared_differences_count_what_was_measured_of_k_space(
    same_maps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With equal maps and different masks, images are measured once; nothing of an unmeasured line may count."""
    law, x = Mri(acceleration=3, acs=2, coils=2, sigma_n=0.1), torch.from_numpy(as_channels(waves(7)) / SCALE).double()
    operator: Operator = law.draw(5, (2, SIZE, SIZE), seeded("drawn"))
    if same_maps:
        operator = operator.with_parameters({"maps": operator.parameters()["maps"][:1].expand(5, -1, -1, -1, -1)})
    y = law.corrupt(x[:5], operator, seeded("noise"))
    monkeypatch.setattr(fit, "_NUMBERS", 3 * 4 * SIZE**2)
    found, observed = fit.squared_differences(y, operator, x), fit.observed_numbers(y, operator)
    maps, mask = (operator.parameters()[name].double().numpy() for name in ("maps", "mask"))
    for i in range(5):
        lines = mask[i, 0, 0] > 0
        assert 0 < lines.sum() < SIZE and float(observed[i]) == 2 * 2 * SIZE * lines.sum()
        for j in range(7):
            coils = (maps[i, ..., 0] + 1j * maps[i, ..., 1]) * as_numbers(x[j : j + 1])
            k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(coils, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
            difference = (k - (y[i, ::2] + 1j * y[i, 1::2]).numpy())[..., lines]
            assert float(found[i, j]) == pytest.approx((np.abs(difference) ** 2).sum(), rel=1e-9)


def test_likelihoods_of_k_space_are_scored_under_as_many_images_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 measurements of other images, drawn by the same law: the difference is 0 within 5 standard errors."""
    law, x = Mri(acceleration=3, acs=2, coils=2, sigma_n=0.3), torch.from_numpy(as_channels(waves(400)) / SCALE)
    operator = law.draw(60, (2, SIZE, SIZE), seeded("drawn"))
    y = law.corrupt(x[:60], operator, seeded("noise"))
    everything = measurement_likelihood(y, operator, x[60:], 0, law)
    assert isinstance(everything, Likelihood) and (everything.n, everything.images) == (60, 340)
    lines = operator.parameters()["mask"].sum() / 60
    assert everything.dim == round(2 * 2 * SIZE * float(lines)) < 2 * 2 * SIZE**2 / 2
    assert abs(everything.difference) < 5 * everything.difference_std
    monkeypatch.setattr("restill.checks.likelihood._APPLIED", 40 * 100 * 4 * SIZE**2)
    fewer = measurement_likelihood(y, operator, x[60:], 0, law)
    assert isinstance(fewer, Likelihood) and (fewer.n, fewer.images) == (40, 100)
    monkeypatch.setattr("restill.checks.likelihood._LARGEST", 4 * SIZE**2 - 1)
    assert measurement_likelihood(y, operator, x[60:], 0, law) is None


def test_a_teacher_of_k_space_restores_images() -> None:
    """Zero-filled images are not the images, but all that a teacher which predicts images is shown of them."""
    law, x = Mri(acceleration=3, acs=2, coils=2, sigma_n=0.05), torch.from_numpy(as_channels(waves(6)) / SCALE)
    operator = law.draw(6, (2, SIZE, SIZE), seeded("drawn"))
    batch = Batch(law.corrupt(x, operator, seeded("noise")), operator, None)
    assert shows_image(batch, x)
    assert float((operator.to_image(operator.apply(x)) - x).abs().max()) > 0.05


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of k-space with labels, from clean complex images to its report: two steps of either training."""
    folder = tmp_path_factory.mktemp("mri")
    np.savez(folder / "clean.npz", images=as_channels(waves(150)), labels=np.arange(150) % 2)
    recipe = tiny_recipe(
        data={"source": str(folder / "clean.npz")},
        corruption=LAW,
        network={"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
        teacher={"images": 64, "batch_size": 32, "augment": 0},
        student={"images": 64, "batch_size": 32, "select_every": 32, "select_samples": 32, "snapshots": 2},
        sampling={"num_steps": 3, "show": 9, "batch_size": 32},
        evaluation={"samples": SAMPLES, "seeds": [0], "features": ["pixels"]},
    )
    run(recipe, folder / "run")
    return open_run(folder / "run")


def test_all_numbers_are_finite_and_of_all_subjects(finished: Run) -> None:
    results, checks = load_results(finished.metrics)
    assert {r.subject for r in results} == {"real", "measurements", *SUBJECTS}
    assert {r.features for r in results} == {"pixels", "classifier", "pairs"}
    assert all(np.isfinite(r.value) for r in results)
    assert {r.subject for r in results if r.metric == "psnr"} == {"measurements", "teacher-truncated"}
    names = {c.name for c in checks if c.subject == "student"}
    assert names == {"memorisation", "duplicates", "residuals", "likelihood"}
    assert "nats per measured number of k-space" in next(c.sentence for c in checks if c.name == "likelihood")
    assert load_network_config(finished.stage("student")).complex_values
    assert all(np.isfinite(candidate.proximal) for candidate in select(finished, sigma_rels=(0.1,)).candidates)


def drawn_by(finished: Run, subject: str) -> Tensor:
    return torch.cat(list(trained(finished, subject).draw(range(SAMPLES), 0)))  # type: ignore[arg-type]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_distances_are_those_of_magnitudes(finished: Run, subject: str) -> None:
    found = {(r.reference, r.subject): r.value for r in load_results(finished.metrics).results
             if (r.metric, r.features) == ("frechet", "pixels")}  # fmt: skip
    images, store = drawn_by(finished, subject), open_store(finished.store)
    clean = as_numbers(open_reference(finished.reference).images(torch.arange(150)))
    to_clean = frechet(2 * np.abs(as_numbers(images)), 2 * np.abs(clean))
    assert found["clean", subject] == pytest.approx(to_clean, rel=1e-4)
    assert frechet(as_channels(as_numbers(images)), as_channels(clean)) != pytest.approx(to_clean, rel=0.05)
    anew = as_numbers(torch.cat(list(recorrupted([images], store.corruption, 0))))
    measured = zero_filled(store.batch(torch.arange(150)))
    assert found["measurements", subject] == pytest.approx(frechet(2 * np.abs(anew), 2 * np.abs(measured)), rel=1e-4)


def test_measurements_are_their_zero_filled_reconstructions(finished: Run) -> None:
    results = load_results(finished.metrics).results
    found = {
        r.metric: r
        for r in results
        if r.subject == "measurements" and r.features in ("pixels", "pairs") and not r.of_half
    }
    measured = np.abs(zero_filled(open_store(finished.store).batch(torch.arange(150))))
    clean = np.abs(as_numbers(open_reference(finished.reference).images(torch.arange(150))))
    errors = ((measured - clean)[:SAMPLES] ** 2).mean(axis=(1, 2))
    assert found["psnr"].value == pytest.approx(float(np.mean(-10 * np.log10(errors))), abs=1e-3)
    assert found["frechet"].n == SAMPLES < 150  # a random half of the measurements
    whole = frechet(2 * measured, 2 * clean)
    assert found["frechet"].value == pytest.approx(whole, rel=0.5)


def test_the_classifier_sees_magnitudes(finished: Run) -> None:
    config = json.loads((finished.path / "classifier" / "config.json").read_text())
    assert config["shape"] == [1, SIZE, SIZE] and ClassifierFeatures.dim == 64


def test_the_report_shows_magnitudes_and_phases(finished: Run) -> None:
    text = html.unescape(finished.report.read_text(encoding="utf-8"))
    words = "3-fold undersampled k-space of 2 coils (random lines, always with the 2 in the centre) and noise 0.05"
    assert f"From 150 measurements with {words}, and no clean image" in text
    for subject in ("measurements", *SUBJECTS):
        assert len(re.findall(rf'alt="\d+ images in \d+ rows of \d+: {subject}\.', text)) == 1
        assert len(re.findall(rf'alt="\d+ images in \d+ rows of \d+: {subject}, phase\.', text)) == 1
    assert text.count("Red is 0, green 120, cyan 180 and blue 240 degrees") == 2  # once to see and once in its alt text
    assert "Magnitudes from 0 (black) to 1 (white) are shown" in text and "Values from" not in text
    assert "zero-filled reconstructions: k-space is 0 where it was not measured" in text
    assert "Images are complex. Metrics compare their magnitudes" in text
    assert "For complex images they see only magnitudes, not phases." in text
    assert '<th role="columnheader" scope="col">zero-filled</th>' in text
    assert re.search(r"student [\d,.]+( ± [\d.]+)?ᵃ?.*zero-filled [\d,.]+", text)
    assert f"a magnitude of {LARGEST:g} in the files is 1 here; k-space values range from" in text


def test_pictures_are_of_magnitudes(finished: Run) -> None:
    samples = finished.path / "samples"
    expected = np.abs(zero_filled(open_store(finished.store).batch(torch.arange(9))))
    picture = np.asarray(Image.open(samples / "measurements.png").convert("L"), float)
    for k in range(9):  # 16 pixels, twice as large, 2 between
        row, column = (34 * (k // 3), 34 * (k % 3))
        cell = picture[row : row + 32 : 2, column : column + 32 : 2]
        np.testing.assert_allclose(cell, np.clip(expected[k], 0, 1) * 255, atol=0.51)
    for subject in ("measurements", *SUBJECTS):
        colours = np.asarray(Image.open(samples / f"{subject}-phase.png").convert("RGB"), float)
        assert colours.shape == (100, 100, 3) and np.ptp(colours[:32, :32], axis=2).max() > 20
    overview = Image.open(samples / "overview.png").convert("RGB")
    assert np.ptp(np.asarray(overview), axis=2).max() == 0  # grey throughout


def test_samples_on_disk_are_complex_numbers(finished: Run, call: Cli, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    call("sample", finished.path, "-n", 5, "--seed", 3, "--out", out)
    names = {f"{k:06d}.{suffix}" for k in range(5) for suffix in ("npy", "png")}
    assert {file.name for file in out.iterdir()} == names | {"grid.png", "grid-phase.png"}
    generator = load_generator(finished.path)
    channels = generator.sample(5, seed=3)
    physical = as_numbers(generator.to_physical(channels))
    for k in range(5):
        values = np.load(out / f"{k:06d}.npy", allow_pickle=False)
        assert values.dtype == np.complex64 and values.shape == (SIZE, SIZE)
        np.testing.assert_allclose(values, physical[k], atol=1e-3)
        picture = np.asarray(Image.open(out / f"{k:06d}.png"), float)
        expected = np.clip(np.abs(values) / LARGEST, 0, 1) * 255
        np.testing.assert_allclose(picture, expected, atol=0.51)
    call("sample", finished.path, "-n", 2, "--seed", 3, "--out", out)  # its own files may be replaced


def test_info_says_complex(finished: Run, call: Cli, fails: Cli) -> None:
    text = call("info", finished.store)
    assert f"complex: a magnitude of {LARGEST:g} in the files is 1 here" in text
    assert "150 of shape [4, 16, 16], images [2, 16, 16], complex (real and imaginary part)" in text
    assert "[2, 16, 16] complex (real and imaginary part)" in call("info", finished.stage("student"))
    text = call("info", finished.path)
    assert "150 measurements of complex images with 3-fold undersampled k-space of 2 coils" in text
    assert "zero- teacher- teacher- filled full truncated student" in text
    assert "k-space" in fails("estimate-noise", finished.store)


def test_runs_of_complex_images_side_by_side(finished: Run, call: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to(finished.path, target_is_directory=True)
    again = tmp_path / "again"
    again.mkdir()
    for file in finished.path.iterdir():
        (again / file.name).symlink_to(file)
    call("report", finished.path, again, "--out", tmp_path / "both.html")
    text = html.unescape((tmp_path / "both.html").read_text(encoding="utf-8"))
    assert text.count("Magnitudes of the student's first images.") == 4  # two captions, two alt texts


def test_a_recipe_of_complex_images_needs_none_to_be_described(call: Cli, tmp_path: Path) -> None:
    recipe = tmp_path / "mri.yaml"
    recipe.write_text(
        "name: mri\ndata: {resize: 32}\ncorruption: {kind: mri, acs: 4, coils: 3}\nteacher: {augment: 0}\n"
    )
    text = call("info", recipe)
    assert "4-fold undersampled k-space of 3 coils" in text and "assuming 2 x 32 x 32" in text
    assert "4 channels in and out, 2 of them for the mask, 32 x 32" in text
