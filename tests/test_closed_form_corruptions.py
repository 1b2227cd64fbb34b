"""Corruptions written outside the library obey the laws on which objectives and distillation rely."""

from __future__ import annotations

import json

import pytest
import torch

from custom_corruptions import Blur, RandomLines, RandomMask
from restill.corruption import AdditiveNoise, Corruption, Operator, corruption_from

F64 = torch.float64
ALL_CHANNELS: list[Corruption] = [AdditiveNoise(sigma_n=(0.0, 0.3)), RandomMask(sigma_n=0.2), Blur(width=0.8)]
CASES = [(law, (channels, 5, 7)) for law in ALL_CHANNELS for channels in (1, 2, 3, 4)]
CASES += [(RandomLines(sigma_n=0.1), (channels, 5, 8)) for channels in (2, 4)]
IDS = [f"{law.kind}-{shape[0]}" for law, shape in CASES]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(n, *shape, generator=generator(seed), dtype=F64)


@pytest.mark.parametrize(("law", "shape"), CASES, ids=IDS)
def test_adjoint_and_autograd(law: Corruption, shape: tuple[int, ...]) -> None:
    operator = law.draw(6, shape, generator())
    x = images(6, shape, 1).requires_grad_()
    forward = operator.apply(x)
    v = images(6, tuple(forward.shape[1:]), 2)
    product = (forward * v).sum()
    assert forward.dtype == F64 and product.abs() > 1e-3
    torch.testing.assert_close(product, (x * operator.adjoint(v)).sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(product, x)[0], operator.adjoint(v), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("law", "shape"), CASES, ids=IDS)
def test_same_seed_same_draw_and_further_sees_no_more(law: Corruption, shape: tuple[int, ...]) -> None:
    first, again, other = (law.draw(6, shape, generator(seed)) for seed in (3, 3, 4))
    for name, value in first.parameters().items():
        torch.testing.assert_close(value, again.parameters()[name], rtol=0, atol=0)
    if len(first.parameters()) > 1:
        assert any(not torch.equal(value, other.parameters()[name]) for name, value in first.parameters().items())
    x = images(6, shape, 5)
    y = law.corrupt(x, first, generator(6))
    torch.testing.assert_close(y, law.corrupt(x, again, generator(6)), rtol=0, atol=0)
    further = law.further(first, generator(7))
    # what a further operator sees is a function of what the operator itself has measured
    torch.testing.assert_close(further.restrict(first.apply(x)), further.apply(x), rtol=1e-12, atol=1e-12)
    rebuilt = law.rebuild(first.parameters(), shape)
    torch.testing.assert_close(rebuilt.apply(x), first.apply(x), rtol=0, atol=0)
    assert corruption_from(json.loads(json.dumps(law.describe()))) == law


@pytest.mark.parametrize("law", [RandomMask(), RandomLines()], ids=["mask", "fourier"])
def test_seen_is_a_projection_of_the_measurement(law: Corruption) -> None:
    operator: Operator = law.draw(6, (2, 5, 8), generator())
    x = images(6, (2, 5, 8), 1)
    seen = operator.seen(x)
    assert 0.05 < seen.square().sum() / x.square().sum() < 0.95
    torch.testing.assert_close(seen, operator.to_image(operator.apply(x)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(seen, operator.seen(seen), rtol=1e-12, atol=1e-12)


def test_random_mask_shares() -> None:
    """n = 40,000 pixels: within 5 standard errors of 1 - p and (1 - p)(1 - delta); a further mask is a subset."""
    law, n = RandomMask(p=0.6, delta=0.1), 40_000
    operator = law.draw(4, (3, 100, 100), generator())
    further = law.further(operator, generator(1))
    for mask, share in ((operator.mask, 0.4), (further.mask, 0.36)):
        assert abs(mask.mean().item() - share) < 5 * (share * (1 - share) / n) ** 0.5
    assert (further.mask <= operator.mask).all()
