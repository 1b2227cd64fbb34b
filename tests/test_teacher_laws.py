"""Phase I from inside: what the teacher is given, with which random numbers, and what is done with its gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from listening import Asked, Listening, ListeningObjective
from restill.core.errors import NonFiniteError
from restill.corruption import AdditiveNoise, Compose, Corruption, Mask, Operator
from restill.diffusion import Denoiser
from restill.objectives import AmbientTweedie, Consistency, Objective
from restill.objectives.consistency import Step
from restill.store import Store
from restill.training import Adam, Average, Batches, TeacherSettings, TeacherTraining
from tiny import different, tiny_denoiser, tiny_store

CPU, SHAPE = torch.device("cpu"), (1, 8, 8)
MASKS = Mask(p=0.4, delta=0.25, sigma_n=0.3)
CHAIN = Compose(operators=({"kind": "blur", "size": 3}, {"kind": "mask", "p": 0.4, "delta": 0.25}), sigma_n=0.3)


@pytest.fixture(autouse=True)
def _nothing_heard_before() -> Iterator[None]:
    ListeningObjective.seen.clear()
    ListeningConsistency.heard.clear()
    yield
    ListeningObjective.seen.clear()
    ListeningConsistency.heard.clear()


class ListeningConsistency(Consistency):
    """Keeps what it is given."""

    heard: ClassVar[list[tuple[Tensor, Operator, Tensor | None, Tensor]]] = []

    def __call__(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        sigma: Tensor,
        step: Step,
        operator: Operator,
        labels: Tensor | None = None,
    ) -> Tensor:
        penalty = super().__call__(denoiser, x_t, sigma, step, operator, labels)
        self.heard.append((x_t, operator, labels, penalty.detach()))
        return penalty


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Masked pictures of three classes, enough for shares of pixels."""
    return tiny_store(tmp_path_factory.mktemp("masked") / "y", MASKS, n=400, classes=3)


def training(store: Store, seed: int = 0, objective: Objective | None = None, **more: Any) -> TeacherTraining:
    denoiser = more.pop("denoiser", None) or Listening(SHAPE, store.num_classes)
    settings = TeacherSettings(**{"images": 1600, "batch_size": 400, "adam": Adam(lr=1e-3), **more})
    batches = Batches(store, settings.batch_size, 0, CPU)
    return TeacherTraining(denoiser, batches, store.corruption, settings, objective or ListeningObjective(), seed)


def asked(store: Store, **more: Any) -> tuple[TeacherTraining, Asked]:
    """What the objective is asked in the first step."""
    one = training(store, **more)
    one.advance()
    return one, ListeningObjective.seen[-1]


def mask_of(operator: Operator) -> Tensor:
    condition = operator.condition()
    assert condition is not None
    return condition.bool()


def undone(image: Tensor, labels: Tensor) -> Tensor:
    """Images `[n, C, H, W]`, moved back as their labels say."""
    turns = (torch.atan2(labels[:, 4], labels[:, 3] + 1) / (torch.pi / 2)).round().int()
    back = []
    for one, label, turn in zip(image, labels, turns.tolist(), strict=True):
        one = one.rot90(-turn, (-2, -1))
        one = one.flip(-2) if label[1] else one
        back.append(one.flip(-1) if label[0] else one)
    return torch.stack(back)


# masks and moves


@pytest.mark.parametrize("augment", [0.0, 0.9])
@pytest.mark.parametrize("law", [MASKS, CHAIN], ids=["masks", "masks of a chain"])
def test_further_masks_are_parts_of_the_measurements_own(tmp_path: Path, law: Corruption, augment: float) -> None:
    """n = 15,000 observed pixels: a share 1 - delta is shown, within 5 standard errors; also of moved measurements."""
    store = tiny_store(tmp_path / "y", law, n=400)
    one, given = asked(store, augment=augment)
    observed, shown = mask_of(given.operator), mask_of(given.further)
    assert torch.equal(given.y != 0, observed) and (shown <= observed).all()
    share = shown[observed].double().mean()
    assert abs(share - 0.75) < 5 * (0.75 * 0.25 / int(observed.sum())) ** 0.5
    told = one.denoiser.calls[0][1]  # type: ignore[union-attr,index]
    assert torch.equal(mask_of(told.operator), shown)
    assert torch.equal(told.x_t != 0, shown)


def test_moved_measurements_are_those_of_the_store_moved_as_the_network_is_told(masked: Store) -> None:
    """Measurements, masks and classes go back to what the store holds; a share of the images is moved (n = 400)."""
    one, given = asked(masked, augment=0.4)
    batch, labels = one.batches.at(0), given.augment
    assert labels is not None and given.labels is not None and batch.labels is not None
    assert torch.equal(one.denoiser.calls[0][1].augment, labels)  # type: ignore[union-attr,index,arg-type]
    assert torch.equal(undone(given.y, labels), batch.y) and torch.equal(given.labels, batch.labels)
    assert torch.equal(undone(mask_of(given.operator), labels), mask_of(batch.operator))
    # each flip comes with 0.4 / 2, a turn with 0.4 * 3/4
    turned = (labels[:, 3] != 0) | (labels[:, 4] != 0)
    for found, share in ((labels[:, 0], 0.2), (labels[:, 1], 0.2), (turned, 0.3)):
        assert abs(found.double().mean() - share) < 5 * (share * (1 - share) / 400) ** 0.5


def test_without_augmentation_the_network_is_told_of_none(masked: Store) -> None:
    one, given = asked(masked)
    assert given.augment is None and torch.equal(given.y, one.batches.at(0).y)


# random numbers


def test_steps_and_seeds_draw_other_numbers_and_the_same_ones_again(masked: Store) -> None:
    """Measurements, moves, further masks, levels, noise, and the seed of dropout."""
    heard: dict[str, list[Tensor]] = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        one = training(masked, seed, augment=0.5, consistency=ListeningConsistency(weight=0.1), batch_size=200)
        for k in range(2):
            one.advance()
            given = ListeningObjective.seen[-1]
            assert given.augment is not None and given.training
            moves, shown = given.augment, mask_of(given.further)
            path = ListeningConsistency.heard[-1][3]
            numbers = [moves, shown, given.draw.sigma, given.draw.noise, path, torch.tensor(given.seed)]
            heard.setdefault(name, []).extend(numbers)
            assert torch.equal(undone(given.y, moves), one.batches.at(k).y)
    half = len(heard["first"]) // 2
    assert not any(torch.equal(heard["first"][k], heard["first"][half + k]) for k in range(half))
    for one_, again, other in zip(heard["first"], heard["again"], heard["other"], strict=True):
        assert torch.equal(one_, again) and not torch.equal(one_, other)


def test_the_network_is_trained_with_its_dropout_and_averaged_without(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "y", AdditiveNoise(sigma_n=0.3))
    losses = []
    for dropout in (0.0, 0.5):
        one = training(store, denoiser=tiny_denoiser(dropout=dropout), batch_size=16, images=64)
        losses.append(one.advance()["loss"])
        assert ListeningObjective.seen[-1].denoiser is one.denoiser and not one.ema.module.training
    assert losses[0] != losses[1]


# losses and gradients


def test_the_consistency_has_its_weight_and_sees_what_the_network_is_shown(masked: Store) -> None:
    """The loss is the objective's and `weight` times the mean penalty; the path starts from x_t, in further masks."""
    plain = training(masked).advance()["loss"]
    for weight in (0.5, 3.0):
        one = training(masked, consistency=ListeningConsistency(weight=weight))
        loss = one.advance()["loss"]
        x_t, operator, labels, penalty = ListeningConsistency.heard[-1]
        torch.testing.assert_close(loss, plain + weight * penalty.mean(), rtol=1e-4, atol=1e-5)
        assert abs(penalty.mean()) > 1e-3
        told = one.denoiser.calls[0][1]  # type: ignore[union-attr,index]
        assert torch.equal(x_t, told.x_t) and torch.equal(mask_of(operator), mask_of(told.operator))
        assert labels is not None and torch.equal(labels, one.batches.at(0).labels)
        assert len(one.denoiser.calls) == 1 + 1 + 2 * (2 + 1)  # the loss, the start, two ends after two steps each
        hidden = ~mask_of(told.operator)
        for _, other, _ in one.denoiser.calls:
            assert torch.equal(mask_of(other.operator), ~hidden) and torch.equal(other.labels, labels)
            assert (other.x_t[hidden] == 0).all()


def test_parts_of_a_batch_have_the_gradient_of_the_whole(tmp_path: Path) -> None:
    """With masks, moves, classes and consistency, all drawn for the whole batch at once."""
    store = tiny_store(tmp_path / "y", MASKS, classes=3)
    gradients, losses = [], []
    for parts in (1, 2, 4):
        denoiser = tiny_denoiser(condition=1, classes=3, augment=True)
        more: dict[str, Any] = {"batch_size": 16, "images": 64, "augment": 0.7, "consistency": Consistency(weight=0.3)}
        one = training(store, denoiser=denoiser, accumulate=parts, **more)
        losses.append(one.advance()["loss"])
        moments = one.update.moments()  # Adam's first moment is a tenth of the first gradient
        gradients.append(torch.cat([m.flatten() for name, m in moments.items() if name.startswith("exp_avg.")]))
    scale = float(gradients[0].abs().max())
    assert scale > 1e-4 and losses[0] > 0
    for gradient, loss in zip(gradients[1:], losses[1:], strict=True):
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(loss, losses[0], rtol=1e-5, atol=0)


class Infinite(AmbientTweedie):
    """A loss that is infinite while its gradient is not."""

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        return super().__call__(*args, **options) + float("inf")


def test_a_loss_that_is_infinite_stops_the_training(masked: Store) -> None:
    one = training(masked, objective=Infinite())
    before = {name: value.clone() for name, value in one.state().items()}
    with pytest.raises(NonFiniteError, match=r"at step 0$"):
        one.advance()
    assert different(before, one.state()) == []


def test_optimiser_and_average_are_the_recipes(masked: Store) -> None:
    """Adam's moments and rates, and the average with its ramp-up, by their definitions."""
    adam = Adam(lr=0.05, beta1=0.6, beta2=0.95, warmup_images=800, decay="linear")
    average = Average(halflife_images=800, rampup=0.7)
    one = training(masked, adam=adam, ema=average)
    weight = one.denoiser.picture
    expected = weight.detach().clone()
    first, second = torch.zeros_like(expected), torch.zeros_like(expected)
    rates = [0, 0.5, 1, 0.5]  # at 0, 400, 800, 1,200 of 1,600 images
    for k, rate in enumerate(rates):
        before = weight.detach().clone()
        one.advance()
        moments = one.update.moments()
        gradient = (moments["exp_avg.picture"] - 0.6 * first) / 0.4
        first, second = moments["exp_avg.picture"].clone(), 0.95 * second + 0.05 * gradient.square()
        torch.testing.assert_close(moments["exp_avg_sq.picture"], second, rtol=1e-3, atol=1e-9)
        step = 0.05 * rate * first / (1 - 0.6 ** (k + 1)) / (second / (1 - 0.95 ** (k + 1))).sqrt()
        torch.testing.assert_close(before - weight, step, rtol=1e-2, atol=1e-6)
        halflife = min(800, 0.7 * 400 * k)
        kept = 0.5 ** (400 / halflife) if halflife else 0.0
        expected = kept * expected + (1 - kept) * weight.detach()
        torch.testing.assert_close(one.ema.module.picture, expected, rtol=1e-5, atol=1e-6)
    assert (expected - weight).abs().max() > 1e-3
    assert math.isclose(one.images_seen, 1600)
