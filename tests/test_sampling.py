"""Image `k` of a seed is one image, however it is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from custom_corruptions import RandomMask
from restill.core.errors import UserError
from restill.core.kinds import described, kinds
from restill.corruption import Corruption
from restill.diffusion import Denoiser, NetworkDenoiser, Noisy
from restill.sampling import Classes, Heun, OneStep, Sampler, generate
from tiny import tiny_denoiser

SHAPE = (1, 8, 8)
# Convolutions of batches of other sizes sum in another order, which changes the last digits of float32 images of size 1
ROUNDING = 1e-5
SAMPLERS = [OneStep(), Heun(num_steps=4), Heun(num_steps=8, stop_at=0.4)]
IDS = ["one step", "full", "truncated"]


def draw(denoiser: Denoiser, sampler: Sampler, indices: object, seed: int = 0, **options: object) -> Tensor:
    return torch.cat(list(generate(denoiser, sampler, indices, SHAPE, seed, **options)))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["plain", "classes", "masks"])
def conditional(request: pytest.FixtureRequest) -> tuple[Denoiser, dict[str, object]]:
    """A network and what its samples are conditioned on."""
    masks: Corruption = RandomMask(p=0.5)
    cases: dict[str, tuple[Denoiser, dict[str, object]]] = {
        "plain": (tiny_denoiser(), {}),
        "classes": (tiny_denoiser(classes=4), {"classes": Classes((5, 1, 0, 2))}),
        "masks": (tiny_denoiser(condition=1), {"corruption": masks}),
    }
    return cases[request.param]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=IDS)
def test_an_image_does_not_depend_on_batch_size_order_or_process(
    sampler: Sampler, conditional: tuple[Denoiser, dict[str, object]]
) -> None:
    denoiser, given = conditional
    everything = draw(denoiser, sampler, range(70), batch_size=64, **given)
    assert everything.shape == (70, *SHAPE) and len(everything.flatten(1).unique(dim=0)) == 70
    for batch_size in (1, 7):
        other = draw(denoiser, sampler, range(20), batch_size=batch_size, **given)
        torch.testing.assert_close(other, everything[:20], atol=ROUNDING, rtol=ROUNDING)
    order = [3, 69, 0, 11]
    some = draw(denoiser, sampler, order, batch_size=3, **given)
    torch.testing.assert_close(some, everything[order], atol=ROUNDING, rtol=ROUNDING)
    processes = [draw(denoiser, sampler, range(rank, 70, 2), batch_size=16, **given) for rank in (0, 1)]
    together = torch.stack([processes[k % 2][k // 2] for k in range(70)])
    torch.testing.assert_close(together, everything, atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=IDS)
def test_seeds_give_other_images(sampler: Sampler, conditional: tuple[Denoiser, dict[str, object]]) -> None:
    denoiser, given = conditional
    first, again, other = (draw(denoiser, sampler, range(8), seed, **given) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert ((first - other).flatten(1).norm(dim=1) > 0.01 * first.flatten(1).norm(dim=1)).all()


def test_truncation_stops_at_the_noise() -> None:
    calls: list[float] = []

    class Counting(NetworkDenoiser):
        def image(self, given: Noisy) -> Tensor:
            calls.append(float(torch.as_tensor(given.sigma).max()))
            return super().image(given)

    denoiser = Counting(tiny_denoiser().net, 1)
    images, levels = {}, {}
    for stop_at in (0.0, 0.4):
        calls.clear()
        images[stop_at] = draw(denoiser, Heun(num_steps=18, stop_at=stop_at), range(4))
        levels[stop_at] = list(calls)
    assert len(levels[0.0]) == 35 and min(levels[0.0]) == pytest.approx(0.002)
    assert 0 < len(levels[0.4]) < 35 and min(levels[0.4]) >= 0.4
    assert levels[0.4] == levels[0.0][: len(levels[0.4])]
    assert not torch.allclose(images[0.0], images[0.4], atol=1e-2)
    calls.clear()
    draw(denoiser, OneStep(init_sigma=2.5), range(4))
    assert calls == [2.5]


def test_labels_are_drawn_for_each_image() -> None:
    seen: list[Tensor] = []

    class Listening(NetworkDenoiser):
        def image(self, given: Noisy) -> Tensor:
            assert given.labels is not None
            seen.append(given.labels)
            return super().image(given)

    denoiser = Listening(tiny_denoiser(classes=4).net, 1, 0.5, 4)
    draw(denoiser, OneStep(), range(400), classes=Classes.alike(4), batch_size=50)
    labels = torch.cat(seen)
    counts = labels.bincount(minlength=4)
    assert counts.sum() == 400 and (counts - 100).abs().max() < 5 * 8.7  # binomial, standard deviation 8.7
    seen.clear()
    draw(denoiser, OneStep(), [7, 399], classes=Classes.alike(4))
    assert torch.equal(seen[0], labels[[7, 399]])


def test_the_denoiser_is_left_as_it_was() -> None:
    denoiser = tiny_denoiser(dropout=0.5).train()
    first, again = (draw(denoiser, OneStep(), range(4)) for _ in range(2))
    assert torch.equal(first, again) and denoiser.training  # no dropout while sampling
    assert torch.is_grad_enabled()
    assert list(generate(denoiser, OneStep(), [], SHAPE)) == []


def test_samplers_are_plain_data() -> None:
    for sampler in SAMPLERS:
        assert described(Sampler, sampler.model_dump()) == sampler
    assert kinds(Sampler) == ["heun", "one-step"]
    with pytest.raises(UserError, match=r"sampler\.num_steps: .* not 1"):
        described(Sampler, {"kind": "heun", "num_steps": 1})
