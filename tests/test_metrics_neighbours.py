"""Nearest neighbours against scipy's tree and loops: order, duplicates, blocks, large offsets, refusals."""

import numpy as np
import pytest
import torch

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import neighbours
from restill.metrics.neighbours import nearest

spatial = pytest.importorskip("scipy.spatial")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m", "d", "k"), [(17, 40, 3, 1), (200, 150, 12, 5), (1, 1, 2, 1), (30, 7, 5, 7)])
def test_agrees_with_a_tree(
    n: int, m: int, d: int, k: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = seeded("neighbours", n)
    a, b = (torch.randn(size, d, generator=generator).to(dtype) for size in (n, m))
    monkeypatch.setattr(neighbours, "_BLOCK", 64)  # one row at a time, or a few
    distances, indices = nearest(a, b, k)
    expected, rows = spatial.cKDTree(b.double()).query(a.double(), k=k)
    assert distances.dtype == torch.float64 and distances.shape == indices.shape == (n, k)
    torch.testing.assert_close(distances, torch.from_numpy(expected).reshape(n, k), rtol=1e-12, atol=0)
    assert torch.equal(indices, torch.from_numpy(rows).reshape(n, k))
    monkeypatch.undo()
    assert torch.equal(nearest(a, b, k)[1], indices)


def test_no_row_is_its_own_neighbour_but_duplicates_are() -> None:
    points = torch.randn(50, 6, generator=seeded("neighbours-self"))
    points[20] = points[3]
    distances, indices = nearest(points, points, 2, exclude_self=True)
    assert not (indices == torch.arange(50)[:, None]).any()
    assert distances[3, 0] == distances[20, 0] == 0
    assert (indices[3, 0], indices[20, 0]) == (20, 3)
    others = torch.cdist(points.double(), points.double()).fill_diagonal_(torch.inf)
    torch.testing.assert_close(distances, others.topk(2, largest=False).values)
    with_self, _ = nearest(points, points, 1)
    assert (with_self == 0).all()


def test_no_row_of_any_block_is_its_own_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    whole = neighbours.nearest(points, points, 2, exclude_self=True)
    monkeypatch.setattr(neighbours, "_BLOCK", 64)  # a row or a few at a time
    for found, expected in zip(neighbours.nearest(points, points, 2, exclude_self=True), whole, strict=True):
        assert torch.equal(found, expected)
    assert float(whole[0].min()) > 0 and not (whole[1] == torch.arange(50)[:, None]).any()


def test_among_equal_distances_the_lower_row_comes_first() -> None:
    b = torch.tensor([[1.0], [-1.0], [1.0], [5.0], [-1.0]])
    distances, indices = nearest(torch.zeros(1, 1), b, 4)
    assert distances.tolist() == [[1, 1, 1, 1]] and indices.tolist() == [[0, 1, 2, 4]]


def test_digits_survive_a_large_offset() -> None:
    """The distance is 1e-6 of the length of the vectors: without centring, float32 products hold nothing of it."""
    generator = seeded("neighbours-offset")
    a, b = (1000 + 1e-3 * torch.randn(size, 20, generator=generator) for size in (40, 60))
    distances, indices = nearest(a, b, 1)
    exact = np.linalg.norm(a.double().numpy()[:, None] - b.double().numpy(), axis=2)
    np.testing.assert_allclose(distances[:, 0], exact.min(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(exact[np.arange(40), indices[:, 0]], exact.min(axis=1))


def test_refusals_name_what_is_wrong() -> None:
    a = torch.zeros(3, 2)
    for b, k, own, message in (
        (torch.zeros(3, 4), 1, False, r"\[3, 2\] and \[3, 4\]"),
        (torch.zeros(3), 1, False, "vectors"),
        (torch.zeros(3, 2, dtype=torch.int64), 1, False, "vectors"),
        (torch.zeros(4, 2), 1, True, "3 and 4"),
        (torch.zeros(3, 2), 3, True, "1 to 2 in a set of 3"),
        (torch.zeros(3, 2), 4, False, "1 to 3 in a set of 3"),
        (torch.zeros(3, 2), 0, False, "must be 1 to"),
        (torch.full((3, 2), torch.nan), 1, False, "NaN"),
    ):
        with pytest.raises(UserError, match=message):
            nearest(a, b, k, exclude_self=own)
