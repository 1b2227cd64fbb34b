"""Hidden shares against dense eigenvalues: noise, masks, blur, Fourier lines, fixed and random, at every noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from custom_corruptions import Blur, BlurOperator, MaskOperator, RandomLines, RandomMask
from restill.checks import hidden
from restill.checks.hidden import FLOOR, Hidden, hidden_check, hidden_share
from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.corruption import AdditiveNoise, Corruption, Identity, Operator

SIGMA_DATA = 0.5


def drawn(corruption: Corruption, n: int, shape: tuple[int, int, int]) -> Operator:
    return corruption.draw(n, shape, seeded("hidden-operators"))


def gram(operator: Operator, row: int, shape: tuple[int, int, int]) -> Tensor:
    """The matrix `A^T A` of one operator, `[d, d]`, from its columns, without its adjoint."""
    d = math.prod(shape)
    columns = torch.eye(d, dtype=torch.float64).reshape(d, *shape)
    matrix = operator.select(torch.full((d,), row)).apply(columns).flatten(1).T
    return matrix.T @ matrix


def share(matrix: Tensor, noise: float) -> float:
    t = torch.linalg.eigvalsh(matrix).clamp(min=0)
    level = max(noise, FLOOR * float(t[-1]))
    return 1 - float((t / (t + level) * (t[-1] + level) / t[-1]).mean())


def expected(operator: Operator, shape: tuple[int, int, int]) -> tuple[float, float]:
    grams = [gram(operator, row, shape) for row in range(len(operator))]
    noise = (operator.sigma_n.double() / SIGMA_DATA).square().tolist()
    each = [share(matrix, level) for matrix, level in zip(grams, noise, strict=True)]
    return sum(each) / len(each), share(torch.stack(grams).mean(0), 0.0)


@pytest.mark.parametrize(
    ("corruption", "shape"),
    [
        (RandomMask(p=0.6), (1, 8, 8)),
        (RandomMask(p=0.3, sigma_n=(0.0, 0.4)), (2, 5, 7)),
        (Blur(width=0.7, sigma_n=0.2), (1, 8, 8)),
        (Blur(width=1.5), (1, 7, 9)),
        (Blur(width=1.0, sigma_n=(0.05, 1.0)), (1, 8, 8)),
        (RandomLines(kept=0.4), (2, 8, 8)),
        (RandomLines(kept=0.3, sigma_n=0.3), (2, 6, 9)),
    ],
    ids=lambda value: f"{value.kind}-{value.sigma_n}" if isinstance(value, Corruption) else None,
)
def test_shares_agree_with_eigenvalues(corruption: Corruption, shape: tuple[int, int, int]) -> None:
    operator = drawn(corruption, 40, shape)
    found = hidden_share(operator, shape, SIGMA_DATA, seed=0)
    each, together = expected(operator, shape)
    assert found.by_each == pytest.approx(each, abs=5 * found.by_each_std + 1e-9)
    assert found.by_all == pytest.approx(together, abs=5 * found.by_all_std + 1e-5)  # t_1 is a Ritz value
    assert found.by_each_std < 0.05 and found.by_all_std < 0.02
    assert (found.operators, found.noise) == (40, pytest.approx(float(operator.sigma_n.square().mean().sqrt()) / 0.5))


@pytest.mark.parametrize("sigma_n", [0.0, 0.4, 3.0])
def test_noise_alone_hides_nothing(sigma_n: float) -> None:
    found = hidden_share(drawn(AdditiveNoise(sigma_n=sigma_n), 5, (3, 8, 8)), (3, 8, 8), SIGMA_DATA, seed=0)
    assert found.by_each == pytest.approx(0, abs=1e-12) and found.by_all == pytest.approx(0, abs=1e-12)
    check = hidden_check(found)
    assert check.status == "ok" and check.subject is None and "hide nothing" in check.sentence


@pytest.mark.parametrize("sigma_n", [0.0, 0.4])
def test_random_masks_hide_their_rate_each_and_nothing_together(sigma_n: float) -> None:
    """The share of missing pixels is exact for the masks drawn: signs see a diagonal without error."""
    operator = drawn(RandomMask(p=0.6, sigma_n=sigma_n), 256, (1, 8, 8))
    assert isinstance(operator, MaskOperator)
    found = hidden_share(operator, (1, 8, 8), SIGMA_DATA, seed=1)
    assert found.by_each == pytest.approx(1 - float(operator.mask.double().mean()), abs=1e-9)
    assert 0 <= found.by_all < 3 * FLOOR
    check = hidden_check(found)
    assert check.status == "ok" and "some of the 256 operators" in check.sentence
    assert f"hides {found.by_each:.1%}" in check.sentence


def test_a_fixed_mask_hides_its_pixels_for_good() -> None:
    mask = (torch.rand(1, 1, 8, 8, generator=seeded("hidden-mask")) < 0.5).float()
    rate = 1 - float(mask.mean())
    found = hidden_share(MaskOperator(torch.full((50,), 0.2), mask.repeat(50, 1, 1, 1)), (1, 8, 8), SIGMA_DATA, seed=0)
    assert found.by_each == pytest.approx(rate, abs=1e-9) and found.by_all == pytest.approx(rate, abs=1e-9)
    check = hidden_check(found)
    assert (check.status, check.value) == ("warning", found.by_all)
    assert "the network invents" in check.sentence and f"all 50 operators hide the same {rate:.1%}" in check.sentence


def test_all_operators_together_hide_what_none_of_them_shows() -> None:
    """Pixels of the upper half are never measured, those of the lower half now and then."""
    mask = (torch.rand(100, 1, 8, 8, generator=seeded("hidden-half")) < 0.3).float()
    mask[:, :, :4] = 0
    found = hidden_share(MaskOperator(torch.zeros(100), mask), (1, 8, 8), SIGMA_DATA, seed=0)
    assert found.by_all == pytest.approx(0.5, abs=3 * FLOOR) and found.by_each == pytest.approx(0.85, abs=0.02)


def test_more_noise_hides_more_of_a_blur_and_all_of_an_opaque_one() -> None:
    shares = [
        hidden_share(drawn(Blur(width=1.0, sigma_n=s), 64, (1, 8, 8)), (1, 8, 8), SIGMA_DATA, seed=0).by_each
        for s in (0.0, 0.05, 0.2, 1.0)
    ]
    assert shares == sorted(shares) and shares[-1] > shares[0] + 0.5
    opaque = hidden_share(MaskOperator(torch.zeros(4), torch.zeros(4, 1, 8, 8)), (1, 8, 8), SIGMA_DATA, seed=0)
    assert opaque.by_each == opaque.by_all == 1


def test_a_scale_of_the_operator_without_noise_changes_nothing() -> None:
    @dataclass(frozen=True)
    class Scaled(BlurOperator):
        def apply(self, x: Tensor) -> Tensor:
            return 7 * super().apply(x)

        def adjoint(self, y: Tensor) -> Tensor:
            return 7 * super().adjoint(y)

    plain, scaled = (hidden_share(kind(torch.zeros(3)), (1, 8, 8), SIGMA_DATA, 0) for kind in (BlurOperator, Scaled))
    assert scaled.by_each == pytest.approx(plain.by_each, abs=1e-4) and plain.by_each > 0.1


def test_a_large_ill_conditioned_blur_converges() -> None:
    """Singular values of the separable blur fall over 16 decades; its 1,024 eigenvalues are products of 2 x 32."""
    corruption, shape = Blur(width=2.0, sigma_n=0.1), (1, 32, 32)
    operator = drawn(corruption, 64, shape)
    assert isinstance(operator, BlurOperator)
    side = torch.linalg.svdvals(operator._matrix(32, torch.zeros(1, dtype=torch.float64))).square()
    matrix = torch.diag(torch.outer(side, side).flatten())
    found = hidden_share(operator, shape, SIGMA_DATA, seed=0)
    assert found.by_each == pytest.approx(share(matrix, 0.04), abs=5 * found.by_each_std)
    assert found.by_all == pytest.approx(share(matrix, 0.0), abs=5 * found.by_all_std)
    assert found.by_each_std < 0.005 and found.by_all_std < 0.01


def test_the_bounds_enclose_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after 6 steps, the Gauss and Gauss-Radau rules lie on either side of v^T g v; after 40 they meet."""
    operator, shape = BlurOperator(torch.zeros(8), 1.2), (1, 8, 8)
    probes, level = hidden._signs(8, shape, seeded("hidden-bounds")), torch.tensor([1e-3], dtype=torch.float64)
    t, vectors = torch.linalg.eigh(gram(operator, 0, shape))
    gain = t / (t + level) * (t[-1] + level) / t[-1]
    exact = ((probes.flatten(1) @ vectors).square() * gain).sum(1) / 64
    for steps, largest_gap in ((6, 0.5), (40, 1e-3)):
        monkeypatch.setattr(hidden, "_STEPS", steps)
        monkeypatch.setattr(hidden, "_GAP", 0.0)
        lower, upper = hidden._seen(hidden._gram(operator), probes, level, shared=True)
        assert (lower <= exact + 1e-6).all() and (exact <= upper + 1e-6).all()
        assert float((upper - lower).max()) < largest_gap
        assert steps > 6 or float((upper - lower).min()) > 1e-3


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = drawn(RandomLines(kept=0.4, sigma_n=0.2), 12, (2, 6, 6))
    whole = hidden_share(operator, (2, 6, 6), SIGMA_DATA, seed=3)
    monkeypatch.setattr(hidden, "_NUMBERS", 500)
    parts = hidden_share(operator, (2, 6, 6), SIGMA_DATA, seed=3)
    assert parts.by_each == pytest.approx(whole.by_each, abs=1e-6)
    assert parts.by_all == pytest.approx(whole.by_all, abs=1e-6)
    other = hidden_share(operator, (2, 6, 6), SIGMA_DATA, seed=4)
    assert other.by_each != whole.by_each


def test_refusals_and_the_settings_of_a_check() -> None:
    for operator, sigma_data in ((Identity(torch.zeros(0)), 0.5), (Identity(torch.zeros(3)), 0.0)):
        with pytest.raises(UserError, match="sigma_data"):
            hidden_share(operator, (1, 4, 4), sigma_data, seed=0)
    check = hidden_check(Hidden(0.7, 0.01, 0.2, 0.02, 64, 0.8))
    assert (check.value, check.std, check.settings["by_each"]) == (0.2, 0.02, 0.7)
    assert "at noise of 0.8 of the data's standard deviation" in check.sentence
