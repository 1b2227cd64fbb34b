"""The wavelet transform of compressed sensing, against PyWavelets and as an orthonormal matrix."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import pywt
import torch

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.restoration import Wavelets


@pytest.mark.parametrize("shape", [(32, 32), (33, 30), (31, 47), (2, 5)], ids=str)
@pytest.mark.parametrize("name", ["db4", "haar", "sym5", "coif2"])
def test_the_transform_is_orthonormal_for_every_size(shape: tuple[int, int], name: str) -> None:
    wavelets = Wavelets(shape, name, levels=min(shape).bit_length() - 1)
    unit = torch.eye(math.prod(shape), dtype=torch.float64).unflatten(1, shape)
    matrix = wavelets.forward(unit).flatten(1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(len(unit), dtype=torch.float64), atol=1e-9)
    assert torch.allclose(wavelets.inverse(unit).flatten(1), matrix.T, atol=1e-9)
    x = torch.randn(3, *shape, dtype=torch.complex128, generator=seeded("x"))
    assert torch.allclose(wavelets.inverse(wavelets.forward(x)), x, atol=1e-9)
    assert not torch.allclose(wavelets.forward(x), x, atol=0.1)


@pytest.mark.parametrize("shape", [(32, 32), (64, 48)], ids=str)
@pytest.mark.parametrize(("name", "levels"), [("db4", 2), ("haar", 4), ("sym4", 1)])
@pytest.mark.filterwarnings("ignore:Level value")
def test_the_transform_is_that_of_pywavelets(shape: tuple[int, int], name: str, levels: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, *shape, 2)).view(complex)[..., 0]
    theirs = pywt.wavedec2(x, name, "periodization", levels, axes=(1, 2))
    expected = pywt.coeffs_to_array(theirs, axes=(1, 2))[0]
    assert np.abs(Wavelets(shape, name, levels).forward(torch.from_numpy(x)).numpy() - expected).max() < 1e-12


@pytest.mark.parametrize(("side", "levels"), [(8, 1), (32, 2), (320, 5)])
def test_usual_levels(side: int, levels: int) -> None:
    assert Wavelets((side, 384)).levels == levels


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((32, 32), "db44"), "'db44' is not known: did you mean 'db4'"),
        (((32, 32), "bior4.4"), "'bior4.4' is not orthonormal; use haar"),
        (((32, 32), "db4", 6), "levels must be 1 to 5"),
        (((1, 32), "db4"), "1 x 32 are too small"),
    ],
)
def test_transforms_that_are_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Wavelets(*arguments)


def test_without_pywavelets(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"restill\[mri\]"):
        Wavelets((32, 32))


def test_levels_are_those_of_the_shorter_side() -> None:
    assert Wavelets((16, 128), "haar").levels == Wavelets((128, 16), "haar").levels == Wavelets((16, 16), "haar").levels
    assert Wavelets((16, 16), "haar").levels < Wavelets((128, 128), "haar").levels
