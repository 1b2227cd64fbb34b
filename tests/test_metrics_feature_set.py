"""Sets of features: streamed, split and merged, they are the same set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restill.core.errors import UserError
from restill.core.processes import Processes
from restill.corruption import AdditiveNoise
from restill.metrics import FeatureSet, recorrupted

X = torch.randn(1000, 7, generator=torch.Generator().manual_seed(0)) * 3 + 100


def streamed(x: torch.Tensor, batch: int, keep: int = 300) -> FeatureSet:
    known = FeatureSet(7, keep)
    for part in x.split(batch):
        known.update(part)
    return known


@pytest.mark.parametrize("batch", [1, 7, 256, 1000])
def test_moments_of_all_and_features_of_the_first(batch: int) -> None:
    known = streamed(X, batch)
    np.testing.assert_allclose(known.moments.mean, X.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(known.moments.cov, np.cov(X.double().numpy().T), rtol=1e-9, atol=1e-12)
    assert known.n == 1000 and torch.equal(known.kept, X[:300])


def test_moments_follow_later_updates() -> None:
    known = streamed(X[:500], 100)
    before = known.moments
    known.update(X[500:])
    assert before.n == 500 and known.moments.n == 1000 and not torch.equal(before.mean, known.moments.mean)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_of_several_processes_make_the_same_set(count: int) -> None:
    shares = [Processes(rank, count).share(1000, 256) for rank in range(count)]
    assert [i for share in shares for i in share] == list(range(1000))
    assert all(share.start % 256 == 0 or not len(share) for share in shares)
    parts = [streamed(X[share.start : share.stop], 100).tensors() for share in shares]
    merged, whole = FeatureSet.merged(parts, keep=300), streamed(X, 1000)
    assert merged.n == 1000 and torch.equal(merged.kept, whole.kept)
    np.testing.assert_allclose(merged.moments.cov, whole.moments.cov, rtol=1e-10, atol=1e-12)


def test_a_set_of_moments_alone() -> None:
    known = FeatureSet.of_moments(streamed(X, 100).moments)
    assert known.moments.n == 1000 and known.kept.shape == (0, 7)


def test_bad_features() -> None:
    with pytest.raises(UserError, match="7"):
        FeatureSet(7).update(X[:, :5])
    with pytest.raises(UserError, match="NaN"):
        FeatureSet(7).update(torch.full((2, 7), torch.nan))
    with pytest.raises(UserError, match="at least 2"):
        _ = FeatureSet(7).update(X[:1]).moments
    with pytest.raises(UserError, match="merged"):
        FeatureSet.merged([FeatureSet(7).tensors(), FeatureSet(8).tensors()])


@pytest.mark.parametrize("batch", [1, 100, 256, 300, 700])
def test_corrupting_anew_does_not_depend_on_the_batches(batch: int) -> None:
    images, corruption = torch.zeros(700, 1, 4, 4), AdditiveNoise(sigma_n=0.3)
    chunks = list(recorrupted(images.split(batch), corruption, seed=1))
    assert [len(chunk) for chunk in chunks] == [256, 256, 188]
    assert torch.equal(torch.cat(chunks), torch.cat(list(recorrupted([images], corruption, seed=1))))
    assert abs(float(torch.cat(chunks).std()) - 0.3) < 5 * 0.3 / (2 * 700 * 16) ** 0.5
    assert not torch.equal(chunks[0], chunks[1])  # each chunk has noise of its own
    second = list(recorrupted(images[256:].split(batch), corruption, seed=1, first=256))
    assert torch.equal(torch.cat(second), torch.cat(chunks[1:]))
    with pytest.raises(ValueError, match="multiples of 256"):
        list(recorrupted([images], corruption, seed=1, first=100))
