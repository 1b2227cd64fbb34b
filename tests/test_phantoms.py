"""Images for MRI that need no file: random heads, and the phase that makes magnitudes complex."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from restill.acquisition import corrupt_images
from restill.acquisition.clean_images import with_phase
from restill.core.errors import UserError
from restill.corruption import Mri
from restill.io import array_source, phantoms
from restill.store.reference import open_reference
from tiny import images


def test_heads_differ_and_have_two_classes() -> None:
    source = phantoms(24, 300)
    heads = np.stack(list(source))
    assert heads.shape == (300, 1, 24, 24) and source.value_range == (0, 255)
    assert source.classes == ("healthy", "lesion")
    assert heads.min() >= 0 and heads.max() <= 255 and heads.max() > 200
    assert len({head.tobytes() for head in heads}) == 300
    assert (heads[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()  # air in the corners
    labels = np.array(source.labels)
    assert 100 < labels.sum() < 200
    inside = heads[:, 0, 6:18, 8:16].max(axis=(1, 2))
    assert np.median(inside[labels == 1]) > np.median(inside[labels == 0]) + 20  # a lesion is bright


def test_heads_are_the_same_every_time_whatever_their_number() -> None:
    few, many = np.stack(list(phantoms(16, 250))), np.stack(list(phantoms(16, 260)))
    np.testing.assert_array_equal(few, many[:250])


def test_phase_is_smooth_and_leaves_the_magnitude() -> None:
    source = array_source(images(30, (1, 32, 32)), "magnitudes", value_range=(0.0, 255.0))
    complex_ = with_phase(source, seed=4)
    again, other = np.stack(list(complex_)), np.stack(list(with_phase(source, seed=5)))
    assert complex_.shape == (2, 32, 32) and complex_.value_range == (-255.0, 255.0)
    np.testing.assert_array_equal(again, np.stack(list(complex_)))
    assert not np.array_equal(again, other)
    values = again[:, 0] + 1j * again[:, 1]
    np.testing.assert_allclose(np.abs(values), np.stack(list(source))[:, 0], atol=1e-3)
    steps = np.angle(values[:, 1:] * values[:, :-1].conj())[(np.abs(values[:, 1:]) > 1) & (np.abs(values[:, :-1]) > 1)]
    assert np.abs(steps).max() < 0.7 and np.angle(values).std() > 0.3  # radians, from pixel to pixel, and in all


def test_complex_images_stay_and_others_are_refused() -> None:
    two = array_source(images(3, (2, 8, 8)), "two", layout="NCHW")
    assert with_phase(two, 0) is two
    with pytest.raises(UserError, match="3 channels; MRI is simulated from magnitudes"):
        with_phase(array_source(images(3, (3, 8, 8)), "three", layout="NCHW"), 0)
    negative = array_source(images(3).astype(np.float32) - 100, "scans", layout="NCHW")
    with pytest.raises(UserError, match=r"scans.*holds -.*magnitudes must be at least 0"):
        list(with_phase(negative, 0))


def test_magnitudes_become_a_store_of_k_space(tmp_path: Path) -> None:
    source = array_source(images(12, (1, 16, 16)), "magnitudes", value_range=(0.0, 255.0))
    law = Mri(acceleration=2, acs=2, coils=3)
    store = corrupt_images(source, law, tmp_path / "store", tmp_path / "clean", seed=0)
    clean = open_reference(tmp_path / "clean")
    batch, x = store.batch(torch.arange(12)), clean.images(torch.arange(12))
    assert store.is_complex and clean.is_complex and store.shape == (6, 16, 16)
    torch.testing.assert_close(batch.operator.apply(x), batch.y)
    magnitude = clean.to_physical(x).square().sum(1).sqrt()
    torch.testing.assert_close(magnitude, torch.from_numpy(images(12, (1, 16, 16)))[:, 0].float(), rtol=0, atol=1e-2)
    assert x.square().sum(1).sqrt().max() <= 1
