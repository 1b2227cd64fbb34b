"""Files of reference statistics: there and back, those of other programs, and those that are no reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import (
    Moments,
    PixelFeatures,
    feature_moments,
    frechet_distance,
    load_reference,
    save_reference,
)
from untrusted import Evil

FEATURES = PixelFeatures((1, 2, 3))
N = 200


def images(n: int = N, seed: int = 0) -> Tensor:
    mixing = torch.randn(6, 6, generator=seeded("test-mixing", seed))
    return (torch.randn(n, 6, generator=seeded("test-reference", seed)) @ mixing + 0.3).reshape(n, 1, 2, 3)


@pytest.fixture(scope="module")
def moments() -> Moments:
    return feature_moments([images()], FEATURES)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    """What another program writes: the mean and covariance of float64 features, by numpy alone."""
    x = images().numpy().reshape(N, 6).astype(np.float64)
    return {"mu": x.mean(axis=0), "sigma": np.cov(x, rowvar=False)}


def test_a_reference_comes_back_bit_for_bit(moments: Moments, tmp_path: Path) -> None:
    file = tmp_path / "new" / "ref.npz"
    save_reference(file, moments, FEATURES)
    back = load_reference(file, FEATURES)
    assert back.n == N and torch.equal(back.mean, moments.mean) and torch.equal(back.cov, moments.cov)
    assert load_reference(file, FEATURES, n=N).n == N
    assert [path.name for path in file.parent.iterdir()] == ["ref.npz"]


def test_other_programs_read_mu_and_sigma(moments: Moments, arrays: dict[str, Any], tmp_path: Path) -> None:
    save_reference(tmp_path / "ref.npz", moments, FEATURES)
    read = dict(np.load(tmp_path / "ref.npz"))
    for key in ("mu", "sigma"):
        assert read[key].dtype == np.float64
        np.testing.assert_allclose(read[key], arrays[key], rtol=0, atol=1e-12)


def test_a_distance_to_a_file_of_another_program(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "fid-refs.npz", **arrays)
    reference = load_reference(tmp_path / "fid-refs.npz", FEATURES, n=N)
    ours = feature_moments([images(150, seed=1)], FEATURES)
    a, b = arrays["sigma"], ours.cov.numpy()
    expected = np.square(arrays["mu"] - ours.mean.numpy()).sum() + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
    assert expected > 0.1
    assert frechet_distance(ours, reference) == pytest.approx(expected, rel=1e-9)
    assert reference.n == N


def test_single_precision_files_are_widened(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "ref.npz", **{key: value.astype(np.float32) for key, value in arrays.items()})
    back = load_reference(tmp_path / "ref.npz", FEATURES, n=N)
    assert back.mean.dtype == back.cov.dtype == torch.float64
    np.testing.assert_allclose(back.cov, arrays["sigma"], rtol=1e-6, atol=1e-6)


def test_the_number_of_images_must_be_known_and_agree(arrays: dict[str, Any], moments: Moments, tmp_path: Path) -> None:
    foreign, own = tmp_path / "foreign.npz", tmp_path / "own.npz"
    np.savez(foreign, **arrays)
    save_reference(own, moments, FEATURES)
    for file, n, words in (
        (foreign, None, "foreign.npz: the number of images is missing: state n"),
        (foreign, 1, "at least 2 images, not 1"),
        (own, 50_000, "own.npz: describes 200 images, not 50000"),
    ):
        with pytest.raises(UserError, match=words):
            load_reference(file, FEATURES, n)


def test_a_reference_of_other_features_is_refused(moments: Moments, tmp_path: Path) -> None:
    file = tmp_path / "ref.npz"
    save_reference(file, moments, FEATURES)
    for other, words in (
        (PixelFeatures((1, 3, 2)), "features_fingerprint is '.{64}', but the features in use have '.{64}'"),
        (PixelFeatures((2, 64, 64)), "features is 'pixels', but the features in use have 'pixels/2'"),
    ):
        with pytest.raises(UserError, match=f"ref.npz: {words}"):
            load_reference(file, other)
    with pytest.raises(UserError, match=r"moments of 6 features are not those of 'pixels' .64."):
        save_reference(file, moments, PixelFeatures((1, 8, 8)))
    load_reference(file, FEATURES)


def changed(array: np.ndarray, index: tuple[int, ...], value: float) -> np.ndarray:
    copy = array.copy()
    copy[index] = value
    return copy


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {"mu": a["mu"]}, "must hold the arrays mu and sigma; sigma is missing"),
        (lambda a: {"sigma": a["sigma"]}, "mu is missing"),
        (lambda a: a | {"mu": a["mu"][:5]}, r"mu must be real numbers of shape \[6\], not float64 \[5\]"),
        (lambda a: a | {"sigma": a["sigma"][:, :5]}, r"sigma must be real numbers of shape \[6, 6\]"),
        (lambda a: a | {"mu": a["mu"] * 1j}, "not complex128"),
        (lambda a: a | {"mu": a["mu"].astype(str)}, "mu must be real numbers"),
        (lambda a: a | {"mu": changed(a["mu"], (2,), np.nan)}, "mu holds NaN"),
        (lambda a: a | {"sigma": changed(a["sigma"], (1, 1), np.inf)}, "sigma holds NaN or infinite"),
        (lambda a: a | {"sigma": changed(a["sigma"], (0, 1), 9.0)}, "sigma must be a covariance.*not symmetric"),
        (lambda a: a | {"sigma": changed(a["sigma"], (3, 3), -0.25)}, "holds the variance -0.25"),
        (lambda a: a | {"n": np.array([3, 4])}, r"n must be one integer, not int64 \[2\]"),
        (lambda a: a | {"n": np.array(2.5)}, "n must be one integer, not float64"),
    ],
)
def test_what_is_no_reference_is_refused(change: Any, words: str, arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **change(arrays))
    with pytest.raises(UserError, match=f"bad.npz: .*{words}") as caught:
        load_reference(tmp_path / "bad.npz", FEATURES, None if "n must" in words else N)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_npz_are_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "ref.npz", **arrays)
    content = (tmp_path / "ref.npz").read_bytes()
    contents = {
        "text.npz": b"mu sigma",
        "empty.npz": b"",
        "half.npz": content[: len(content) // 2],
        "flipped.npz": content[:90] + bytes(255 - byte for byte in content[90:130]) + content[130:],
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    np.save(tmp_path / "array.npy", arrays["mu"])
    for name in (*contents, "array.npy"):
        with pytest.raises(UserError, match=rf"{name}: (is not an|must be an) .npz with arrays mu and sigma") as caught:
            load_reference(tmp_path / name, FEATURES, N)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"absent.npz: no such file"):
        load_reference(tmp_path / "absent.npz", FEATURES, N)


def test_nothing_in_a_file_is_executed(arrays: dict[str, Any], tmp_path: Path) -> None:
    file, evidence = tmp_path / "ref.npz", tmp_path / "executed"
    evil = np.array([Evil(evidence)], dtype=object)
    np.savez(file, **arrays, arr_0=evil)
    np.load(file, allow_pickle=True)["arr_0"]
    assert evidence.exists()  # the file is as dangerous as it is meant to be
    evidence.unlink()
    load_reference(file, FEATURES, N)  # what is not needed is not read
    np.savez(file, **arrays | {"mu": evil})
    with pytest.raises(UserError, match=r"is not an .npz with arrays mu and sigma"):
        load_reference(file, FEATURES, N)
    assert not evidence.exists()


def test_a_failed_write_leaves_what_was_there(
    moments: Moments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ref.npz"
    save_reference(file, moments, FEATURES)
    before = file.read_bytes()

    def full(stream: Any, **_: object) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match=r"ref.npz: cannot be written .No space left"):
        save_reference(file, feature_moments([images(seed=1)], FEATURES), FEATURES)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["ref.npz"]
