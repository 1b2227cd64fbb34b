"""Image `k` of a seed is one image, however it is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from custom_corruptions import RandomMask
from listening import Listening
from restill.checkpoint import NetworkConfig
from restill.core.errors import UserError
from restill.core.kinds import described, kinds
from restill.core.tensors import sample_normal
from restill.corruption import AdditiveNoise, Compose, Corruption, Downsampling, Mask, Mri, MriOperator, Operator
from restill.diffusion import Denoiser, NetworkDenoiser, Noisy
from restill.generator import Generator
from restill.runs.subjects import sampler_of
from restill.sampling import Classes, Heun, OneStep, Sampler, generate, karras_levels
from tiny import tiny_denoiser, tiny_recipe

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


# what a denoiser is told while images are drawn


def told(law: Corruption, shape: tuple[int, int, int], indices: object, seed: int = 0) -> list[Operator]:
    """The operators that the denoiser is conditioned on, one for each image, in the order of `indices`."""
    denoiser = Listening(shape)
    for _ in generate(denoiser, OneStep(), indices, shape, seed, corruption=law, batch_size=64):  # type: ignore[arg-type]
        pass
    operators = [given.operator for _, given, _ in denoiser.calls]
    assert all(operator is not None for operator in operators)
    return [operator.select(slice(k, k + 1)) for operator in operators if operator for k in range(len(operator))]


def test_each_image_of_a_seed_has_a_mask_of_its_own() -> None:
    """n = 200 masks of 64 pixels: thinned to (1 - p)(1 - delta), all different, and independent of the latents."""
    law, n = Mask(p=0.4, delta=0.25), 200
    masks = torch.cat([operator.condition() for operator in told(law, SHAPE, range(n))])  # type: ignore[misc]
    assert len(masks.flatten(1).unique(dim=0)) == n
    share = 0.6 * 0.75
    deviation = (share * (1 - share)) ** 0.5
    assert abs(masks.double().mean() - share) < 5 * deviation / masks.numel() ** 0.5
    again = torch.cat([operator.condition() for operator in told(law, SHAPE, [7, 3])])  # type: ignore[misc]
    assert torch.equal(again, masks[[7, 3]])
    other = torch.cat([operator.condition() for operator in told(law, SHAPE, range(n), seed=1)])  # type: ignore[misc]
    assert not (other == masks).flatten(1).all(1).any()
    latents = sample_normal(0, range(n), SHAPE)
    for value in (latents, latents.abs() - latents.abs().mean()):
        correlation = ((masks.double() - share) * value / value.std()).mean() / deviation
        assert abs(correlation) < 5 / masks.numel() ** 0.5


def test_each_image_of_a_seed_has_lines_and_maps_of_its_own() -> None:
    operators = told(Mri(acceleration=3, acs=1, coils=2), (2, 16, 16), range(6))
    parts = [operator.parameters() for operator in operators if isinstance(operator, MriOperator)]
    z, denoiser = sample_normal(0, range(6), (4, 16, 16)), Listening((2, 16, 16))  # white in k-space, of both coils
    given = {"corruption": Mri(acceleration=3, acs=1, coils=2)}
    tuple(generate(denoiser, OneStep(init_sigma=2.0), range(6), (2, 16, 16), **given))  # type: ignore[arg-type]
    ((_, told_all, _),) = denoiser.calls
    assert told_all.operator is not None
    torch.testing.assert_close(told_all.x_t, told_all.operator.noise(2 * z))
    for name in ("mask", "maps"):
        assert len(parts) == 6 and len({tuple(part[name].flatten().tolist()) for part in parts}) > 4, name


@pytest.mark.parametrize("sampler", [OneStep(init_sigma=1.5), Heun(num_steps=4)], ids=["one step", "full"])
@pytest.mark.parametrize("law", [None, Mask(p=0.5)], ids=["no operator", "masks"])
def test_all_calls_of_an_image_are_told_its_class_and_its_mask(sampler: Sampler, law: Corruption | None) -> None:
    """Nothing of the noise is shown where the mask hides; there the image is the network's, not 0."""
    denoiser = Listening(SHAPE, classes=3)
    with torch.no_grad():
        denoiser.of_class += 5 * torch.arange(3)[:, None, None, None]
    wanted = torch.arange(60) % 3
    (images,) = generate(denoiser, sampler, range(60), SHAPE, corruption=law, labels=wanted)
    assert len(denoiser.calls) == (1 if isinstance(sampler, OneStep) else 7)
    first = denoiser.calls[0][1].operator
    for _, given, _ in denoiser.calls:
        assert given.labels is not None and torch.equal(given.labels, wanted)
        assert (given.operator is None) == (law is None)
        if given.operator is not None and first is not None:
            shown = given.operator.condition()
            assert shown is not None and torch.equal(shown, first.condition())  # type: ignore[arg-type]
            assert (given.x_t[~shown] == 0).all() and (images[~shown] != 0).all()
    by_class = torch.stack([images[wanted == k].mean() for k in range(3)])
    assert (by_class.diff() > 4).all()


def test_a_sampler_goes_through_its_own_levels() -> None:
    denoiser = Listening(SHAPE)
    sampler = Heun(num_steps=4, sigma_min=0.1, sigma_max=10.0, rho=3.0)
    tuple(generate(denoiser, sampler, range(2), SHAPE))
    levels = karras_levels(4, 0.1, 10.0, 3.0).tolist()
    called = [float(torch.as_tensor(given.sigma)) for _, given, _ in denoiser.calls]
    assert called == pytest.approx([levels[k] for k in (0, 1, 1, 2, 2, 3, 3)])
    start = denoiser.calls[0][1].x_t
    torch.testing.assert_close(start, 10 * sample_normal(0, range(2), SHAPE))


def test_a_truncated_sampler_stops_at_the_largest_noise_level() -> None:
    """With several sigma_n the noise of some measurements is learned up to the largest of them."""
    law = AdditiveNoise(sigma_n=(0.1, 0.4, 0.2))
    config = NetworkConfig(
        role="teacher", cls="EDMPrecond", kwargs={}, shape=SHAPE, sigma_data=0.5, num_classes=0, offset=0.0, scale=1.0,
        corruption=law.describe(), value_range=None, init_sigma=1.5,
    )  # fmt: skip
    recipe = tiny_recipe(sampling={"num_steps": 7}, refine={"stop_at": 0.5})
    assert sampler_of("teacher-truncated", recipe, config) == Heun(num_steps=7, stop_at=0.4)
    assert sampler_of("teacher-full", recipe, config) == Heun(num_steps=7, stop_at=0.0)
    assert sampler_of("teacher-refined", recipe, config) == Heun(num_steps=7, stop_at=0.2)
    assert sampler_of("student", recipe, config) == OneStep(init_sigma=1.5)
    one = config.model_copy(update={"corruption": AdditiveNoise(sigma_n=0.2).describe()})
    assert sampler_of("teacher-truncated", recipe, one) == Heun(num_steps=7, stop_at=0.2)


DOMAINS = {
    "coarse": Downsampling(sigma_n=0.1),
    "coarse masks": Compose(operators=("downsampling", {"kind": "mask", "p": 0.4}), sigma_n=0.1),
}


@pytest.mark.parametrize("law", DOMAINS.values(), ids=DOMAINS)
def test_a_teacher_draws_in_its_domain_and_a_generator_shows_images(law: Corruption) -> None:
    """Measurements of 4 x 4 pixels: the network works on the 8 x 8 of the images, and they are what is shown."""
    shapes, denoiser = law.shapes(SHAPE), Listening(SHAPE)
    given = {"corruption": law, "image_shape": SHAPE}
    (drawn,) = generate(denoiser, Heun(num_steps=3), range(5), shapes.domain, **given)  # type: ignore[arg-type]
    assert drawn.shape == (5, 1, 4, 4)
    for _, told, image in denoiser.calls:
        assert told.operator is not None and told.x_t.shape == (5, 1, 4, 4) and image.shape == (5, *SHAPE)
    config = NetworkConfig(
        role="teacher", cls="EDMPrecond", kwargs={}, shape=shapes.domain, sigma_data=0.5, num_classes=0, offset=3.0,
        scale=2.0, corruption=law.describe(), value_range=None, image_shape=SHAPE,
    )  # fmt: skip
    generator = Generator(denoiser, config, Heun(num_steps=3))
    images = generator.sample(5)
    torch.testing.assert_close(images, law.template(SHAPE).from_domain(drawn))
    torch.testing.assert_close(generator.sample(2, start=3), images[3:])
    torch.testing.assert_close(generator.to_physical(images), 2 * images + 3)
    student = Generator(denoiser, config.model_copy(update={"role": "student", "init_sigma": 1.5}))
    assert student.sampler == OneStep(init_sigma=1.5) and student.sample(3).shape == (3, *SHAPE)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_a_network_is_left_as_it_was(training: bool) -> None:
    denoiser = tiny_denoiser(dropout=0.5).train(training)
    draw(denoiser, OneStep(), range(2))
    assert denoiser.training is training
