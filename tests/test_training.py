"""The parts of the trainings, and trainings of things that the package does not know."""

from __future__ import annotations

import itertools
import math
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import restill.training.state
from custom_corruptions import Blur, RandomLines, RandomMask
from restill.acquisition import corrupt_images
from restill.acquisition.clean_images import with_phase
from restill.checkpoint import load_state
from restill.core.errors import NonFiniteError, UserError
from restill.core.tensors import seeded
from restill.corruption import AdditiveNoise, Corruption, Mri
from restill.diffusion import Denoiser, NetworkDenoiser, Noisy
from restill.io import array_source
from restill.objectives import DMD, SDS, AmbientTweedie, Consistency, DistillationLoss, Objective, SiD
from restill.objectives.distillation_losses import per_sample_scale
from restill.runs import distill, pretrain, working_on
from restill.runs.phases import interruptible
from restill.runs.recipe_files import Recipe
from restill.sampling import Classes, Heun, OneStep, generate
from restill.training import (
    EMA,
    Adam,
    Average,
    Batches,
    Distillation,
    DistillationSettings,
    FiniteGuard,
    TeacherSettings,
    TeacherTraining,
)
from restill.training import run as training_loop
from restill.training.augment import Moves
from restill.training.players import Generated, Iteration, Loss
from restill.training.update import Update
from tiny import different, images, tiny_denoiser, tiny_recipe, tiny_store

CPU = torch.device("cpu")
ADAM = Adam(lr=1e-3)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


# averages and learning rates


def scalar(value: float) -> nn.Linear:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


@pytest.mark.parametrize("batch_size", [1, 10, 100])
def test_ema_halves_its_distance_every_half_life(batch_size: int) -> None:
    ema, module = EMA(scalar(1.0), Average(halflife_images=100, rampup=None)), scalar(0.0)
    for k in range(300 // batch_size):
        ema.update(module, batch_size, k * batch_size)
        seen = (k + 1) * batch_size
        assert ema.module.weight.item() == pytest.approx(0.5 ** (seen / 100), rel=1e-5)
    assert not ema.module.weight.requires_grad and not ema.module.training


def test_ema_ramp_up_forgets_the_initial_weights() -> None:
    ema, module = EMA(scalar(1.0), Average(halflife_images=1000, rampup=0.05)), scalar(0.0)
    ema.update(module, 10, 0)
    assert ema.module.weight.item() == 0  # at the beginning the half-life is zero
    nn.init.constant_(module.weight, 1.0)
    ema.update(module, 10, 400)  # half-life 0.05 * 400 = 20
    assert ema.module.weight.item() == pytest.approx(1 - 0.5 ** (10 / 20), rel=1e-5)
    ema.update(module, 10, 10**6)  # the half-life is never more than 1000
    assert 1 - ema.module.weight.item() == pytest.approx(0.5**0.5 * 0.5 ** (10 / 1000), rel=1e-4)


def test_buffers_of_an_average_are_those_of_the_module() -> None:
    module = nn.BatchNorm1d(3)
    ema = EMA(module, Average(halflife_images=100))
    module(torch.randn(8, 3, generator=seeded("x")))  # moves the running mean, which is a buffer
    assert not torch.equal(ema.module.running_mean, module.running_mean)  # type: ignore[arg-type]
    ema.update(module, 8, 0)
    for name, buffer in ema.module.named_buffers():
        assert torch.equal(buffer, module.get_buffer(name)), name


def test_learning_rate_warms_up_and_decays() -> None:
    def rates(adam: Adam, *seen: int) -> list[float]:
        return [adam.rate(k, 300) for k in seen]

    assert rates(Adam(lr=2.0, warmup_images=100), 0, 25, 100, 10**9) == [0, 0.5, 2, 2]
    cosine = Adam(lr=2.0, warmup_images=100, decay="cosine", final=0.1)
    quarter = 2 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert rates(cosine, 50, 100, 150, 200, 300, 999) == pytest.approx([1, 2, quarter, 2 * 0.55, 0.2, 0.2])
    assert rates(Adam(lr=2.0, decay="linear"), 0, 150, 300) == pytest.approx([2, 1, 0])


def test_the_learning_rate_of_a_step_is_used() -> None:
    module = scalar(1.0)
    update = Update(module, Adam(lr=0.1, warmup_images=100), 300, FiniteGuard(CPU))
    steps = []
    for seen in (0, 50, 100):
        before = module.weight.item()
        module.weight.grad = torch.full((1, 1), 5.0)
        update.measure(0)
        update.apply(seen, 1)
        steps.append(before - module.weight.item())
    assert steps == pytest.approx([0, 0.05, 0.1], abs=1e-6)  # Adam's step is the learning rate, gradients being equal


@pytest.mark.parametrize(("clip", "norm"), [(None, 5.0), (1.0, 1.0), (9.0, 5.0)])
def test_gradients_are_clipped_to_a_norm(clip: float | None, norm: float) -> None:
    module = nn.Linear(2, 1, bias=False)
    # betas of 0 leave the gradient itself in Adam's first moment
    update = Update(module, Adam(lr=0.1, beta1=0.0, beta2=0.9, grad_clip=clip), 300, FiniteGuard(CPU))
    module.weight.grad = torch.tensor([[3.0, 4.0]])
    measured = update.measure(0)
    update.apply(0, 1)
    assert measured.item() == pytest.approx(5.0)  # what is logged is the norm before
    assert update.moments()["exp_avg.weight"].norm().item() == pytest.approx(norm, rel=1e-4)
    assert module.weight.grad is None


# not-a-number


def test_guard_names_the_first_bad_step() -> None:
    guard = FiniteGuard(CPU)
    guard.immediate = False  # as on an accelerator
    for step, value in enumerate([1.0, float("inf"), 2.0, float("nan")]):
        guard.watch(torch.tensor(value), step)
    with pytest.raises(NonFiniteError, match=r"at step 1$"):
        guard.check()


class Poisoned(AmbientTweedie, kind="test-poisoned"):
    """An objective whose loss becomes NaN at one evaluation."""

    calls: ClassVar[list[int]] = []
    at: int = 5

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        self.calls.append(1)
        return super().__call__(*args, **options) * (float("nan") if len(self.calls) == self.at + 1 else 1)


def teacher_training(folder: Path, objective: Objective, images: int = 160) -> TeacherTraining:
    store = tiny_store(folder)
    settings = TeacherSettings(images=images, batch_size=16, adam=ADAM, ema=Average(halflife_images=50))
    return TeacherTraining(tiny_denoiser(), Batches(store, 16, 0, CPU), store.corruption, settings, objective, seed=0)


def test_a_nan_stops_before_the_weights_are_touched(tmp_path: Path) -> None:
    Poisoned.calls.clear()
    whole, training = teacher_training(tmp_path / "a", AmbientTweedie()), teacher_training(tmp_path / "b", Poisoned())
    with pytest.raises(NonFiniteError, match="step 5"):
        list(training_loop(training))
    for _ in range(5):
        whole.means.add(whole.advance())
    assert training.step == 5 and different(training.state(), whole.state()) == []


def test_a_nan_in_the_fake_score_spares_both_networks(tmp_path: Path) -> None:
    Poisoned.calls.clear()
    training = distillation(objective=Poisoned(at=2))
    for _ in range(2):
        training.advance()
    before = {name: value.clone() for name, value in training.state().items()}
    with pytest.raises(NonFiniteError, match="step 2"):
        training.advance()
    assert different(before, training.state()) == []


class Deferred(FiniteGuard):
    """As on an accelerator, where nobody waits for the value of a step."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.immediate = False


def recipe_on(store: Path, objective: str | dict[str, Any] = "ambient-tweedie") -> Recipe:
    return tiny_recipe(
        objective=objective,
        data={"source": str(store), "content": "store"},
        corruption={"kind": "noise", "sigma_n": 0.3},
        network={"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
        teacher={"images": 160, "batch_size": 16},
        student={"images": 160, "batch_size": 16, "select_every": 16, "select_samples": 16},
    )


@pytest.mark.parametrize(("guard", "kept"), [(FiniteGuard, 5), (Deferred, 0)])
def test_a_run_stopped_by_a_nan_can_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: type[FiniteGuard], kept: int
) -> None:
    tiny_store(tmp_path / "y")
    for name, objective in (("whole", "ambient-tweedie"), ("stopped", "test-poisoned")):
        with working_on(tmp_path / name, recipe_on(tmp_path / "y", objective)) as run:
            run.store.symlink_to(tmp_path / "y")
            if name == "whole":
                pretrain(run)
                continue
            Poisoned.calls.clear()
            monkeypatch.setattr(restill.training.state, "FiniteGuard", guard)
            with pytest.raises(NonFiniteError, match=rf"step 5; .*state.safetensors holds step {kept}\."):
                pretrain(run)
            tensors, data = load_state(run.state("teacher"))
            assert data["step"] == kept and all(bool(value.isfinite().all()) for value in tensors.values())
            monkeypatch.undo()
            pretrain(run)
    ends = [load_state(tmp_path / name / "teacher" / "state.safetensors")[0] for name in ("whole", "stopped")]
    assert different(*ends) == []


def test_a_nan_is_noticed_before_a_student_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_store(tmp_path / "y")
    with working_on(tmp_path / "run", recipe_on(tmp_path / "y", {"kind": "test-poisoned", "at": 3})) as run:
        run.store.symlink_to(tmp_path / "y")
        Poisoned.calls.extend([1] * 100)  # the teacher meets none
        pretrain(run)
        Poisoned.calls.clear()
        monkeypatch.setattr(restill.training.state, "FiniteGuard", Deferred)
        with pytest.raises(NonFiniteError, match="at step 3;"):
            distill(run)
        for file in ("state", "model"):
            tensors, _ = load_state(run.stage("student") / f"{file}.safetensors")
            assert all(bool(value.isfinite().all()) for value in tensors.values())


def test_a_wild_learning_rate_is_noticed(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "y")
    settings = TeacherSettings(images=1600, batch_size=16, adam=Adam(lr=1e30))
    training = TeacherTraining(
        tiny_denoiser(), Batches(store, 16, 0, CPU), store.corruption, settings, AmbientTweedie(), seed=0
    )
    with pytest.raises(NonFiniteError, match="step"):
        list(training_loop(training))
    assert all(bool(value.isfinite().all()) for value in training.state().values())


# augmentation


def augment(x: torch.Tensor, probability: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    moves = Moves.draw(len(x), x.shape[-2:], probability, generator)
    return moves(x), moves.labels


def test_augmentation_is_what_its_labels_say() -> None:
    x = torch.randn(400, 2, 6, 6, generator=seeded("x"))
    y, labels = augment(x, 1.0, seeded("augment"))
    turns = torch.atan2(labels[:, 4], labels[:, 3] + 1) / (torch.pi / 2)
    undone = []
    for image, label, turn in zip(y, labels, turns, strict=True):
        image = image.rot90(-round(turn.item()), (-2, -1))
        image = image.flip(-2) if label[1] else image
        undone.append(image.flip(-1) if label[0] else image)
    assert torch.equal(torch.stack(undone), x)
    assert len({tuple(label.tolist()) for label in labels}) == 2 * 2 * 4
    assert not labels[:, [2, 5, 6, 7, 8]].any()


def test_augmented_white_noise_is_white() -> None:
    noise = torch.randn(50_000, 1, 2, 2, generator=seeded("noise"))
    y, _ = augment(noise, 0.5, seeded("augment"))
    covariance = y.flatten(1).T @ y.flatten(1) / len(y)
    # n = 50,000: standard errors are 0.0063 on the diagonal and 0.0045 beside it
    torch.testing.assert_close(covariance, torch.eye(4), atol=0.03, rtol=0)
    assert not torch.equal(y, noise)


def test_augmentation_of_probability_zero_and_of_oblong_images() -> None:
    x = torch.randn(64, 1, 4, 6, generator=seeded("x"))
    y, labels = augment(x, 0.0, seeded("augment"))
    assert torch.equal(x, y) and not labels.any()
    y, labels = augment(x, 1.0, seeded("augment"))
    assert y.shape == x.shape and labels[:, :2].any() and not labels[:, 2:].any()


# trainings


@pytest.mark.parametrize(("images", "steps"), [(160, 10), (161, 11), (175, 11), (5, 1)])
def test_a_training_is_as_long_as_its_images_or_up_to_a_batch_longer(images: int, steps: int, tmp_path: Path) -> None:
    assert teacher_training(tmp_path / "y", AmbientTweedie(), images).steps == steps


def test_logging_changes_nothing(tmp_path: Path) -> None:
    often, seldom = (teacher_training(tmp_path / name, AmbientTweedie()) for name in "ab")
    rows = [[p.row for p in training_loop(t, every) if p.row] for t, every in ((often, 1), (seldom, 4))]
    assert different(often.state(), seldom.state()) == []
    assert len(rows[0]) == 10 and len(rows[1]) == 3
    assert rows[1][0]["loss"] == pytest.approx(sum(row["loss"] for row in rows[0][:4]) / 4, rel=1e-5)
    assert rows[1][2]["loss"] == pytest.approx(sum(row["loss"] for row in rows[0][8:]) / 2, rel=1e-5)


def distillation(
    loss: DistillationLoss | None = None,
    law: Corruption | None = None,
    teacher: Denoiser | None = None,
    objective: Objective | None = None,
    **options: Any,
) -> Distillation:
    average = Average(halflife_images=50)
    options = {"images": 160, "batch_size": 16, "ema": average, "snapshots": 0, **options}
    settings = DistillationSettings(loss=loss or SiD(), generator=ADAM, fake=ADAM, **options)
    law = law or AdditiveNoise(sigma_n=0.3)
    objective = objective or AmbientTweedie()
    return Distillation(teacher or tiny_denoiser(), law, (1, 8, 8), settings, objective, seed=0, device=CPU)


@pytest.mark.parametrize("share", [True, False])
def test_samples_shared_or_not_both_networks_train(share: bool) -> None:
    training = distillation(share_samples=share)
    student, fake = (training.players[name].module for name in ("student", "fake"))
    before = weights(student), weights(fake), weights(training.teacher)
    for _ in range(3):
        log = training.advance()
    assert all(bool(value.isfinite()) for value in log.values())
    trained = [n for n, _ in student.named_parameters()]
    assert set(trained) <= set(different(before[0], weights(student)))
    assert set(trained) <= set(different(before[1], weights(fake)))
    assert different(before[2], weights(training.teacher)) == []


def test_an_accumulated_batch_has_the_mean_gradient_of_its_parts() -> None:
    whole = distillation(accumulate=2)
    half = distillation(batch_size=8)
    iteration, generator = Iteration(0, seeded("accumulate"), [None, None]), seeded("accumulate")
    log = whole.generator.take_gradient(iteration)
    rows = [half.generator.take_gradient(Iteration(0, generator, [None])) for _ in range(2)]
    assert [len(part.images) for part in iteration.drawn] == [8, 8]
    assert not any(part.images.requires_grad for part in iteration.drawn)
    assert float(log["loss"]) == pytest.approx(sum(float(row["loss"]) for row in rows) / 2, rel=1e-5)
    modules = whole.generator.module, half.generator.module
    for ours, theirs in zip(*(module.parameters() for module in modules), strict=True):
        assert ours.grad is not None and theirs.grad is not None and theirs.grad.abs().max() > 0
        torch.testing.assert_close(ours.grad, theirs.grad / 2, rtol=1e-4, atol=1e-6)
    fake = whole.players["fake"].module
    before = weights(fake)
    assert all(bool(value.isfinite()) for value in whole.advance().values())
    assert different(before, weights(fake))


@pytest.mark.parametrize(("steps", "fits"), [(1, 1), (3, 3)])
def test_the_fake_score_is_fitted_as_often_as_asked(steps: int, fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    training, seen = distillation(fake_steps=steps), []
    fake = training.players["fake"]
    original = fake.loss

    def counted(part: Generated, iteration: Iteration) -> Loss:
        seen.append(part.images.clone())
        return original(part, iteration)

    monkeypatch.setattr(fake, "loss", counted)
    training.advance()
    assert len(seen) == fits
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(seen, 2))  # new images each time


def test_sds_trains_no_fake_score() -> None:
    training = distillation(SDS())
    student, fake = (training.players[name].module for name in ("student", "fake"))
    before = weights(student), weights(fake)
    log = training.advance()
    assert different(before[1], weights(fake)) == [] and "fake_loss" not in log
    assert different(before[0], weights(student)) != []


@pytest.mark.parametrize(("loss", "through"), [(DMD(), False), (SDS(), False), (SiD(), True)])
def test_a_graph_is_built_through_the_networks_only_for_sid(loss: DistillationLoss, through: bool) -> None:
    seen = []

    class Watching(DistillationLoss):
        uses_fake: ClassVar[bool] = loss.uses_fake
        through_networks: ClassVar[bool] = loss.through_networks

        def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
            seen.append((u.requires_grad, a.requires_grad, b.requires_grad and loss.uses_fake))
            return loss(u, x_t, a, b, sigma)

    training = distillation(Watching())
    training.generator.take_gradient(Iteration(0, seeded("z"), [None]))
    assert seen == [(True, through, through)]
    gradients = [p.grad is not None for p in training.generator.module.parameters()]
    assert any(gradients) and not any(p.grad is not None for p in training.teacher.parameters())
    assert not any(p.grad is not None for p in training.players["fake"].module.parameters())


class Attraction(DistillationLoss, kind="test-attraction"):
    """A loss that a user might try: `|u - a|^2 / w`, away from the fake score by a share."""

    share: float = 0.5

    def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
        target = a + self.share * (a - b)
        return ((u - target.detach()).square() / per_sample_scale(u, a)).flatten(1).mean(1)


@pytest.mark.parametrize(
    ("law", "shape"),
    [
        (RandomMask(p=0.5), (1, 8, 8)),
        (RandomMask(p=0.5, sigma_n=0.2), (3, 8, 12)),
        (Blur(width=0.8), (1, 8, 8)),
        (RandomLines(kept=0.6), (2, 8, 8)),
        (AdditiveNoise(sigma_n=(0.0, 0.4), weights=(0.2, 0.8)), (1, 9, 7)),
    ],
    ids=["mask", "noisy mask", "blur", "Fourier mask", "levels"],
)
def test_a_corruption_and_a_loss_from_outside_the_package(
    tmp_path: Path, law: Corruption, shape: tuple[int, int, int]
) -> None:
    store = tiny_store(tmp_path / "y", law, shape=shape)
    assert store.corruption == law
    condition = law.shapes(shape).condition
    denoiser = tiny_denoiser(shape[0], condition, size=max(shape[1:]))
    settings = TeacherSettings(images=64, batch_size=16, adam=ADAM, consistency=Consistency(weight=0.1), accumulate=2)
    objective = AmbientTweedie()
    training = TeacherTraining(denoiser, Batches(store, 16, 0, CPU), law, settings, objective, seed=0)
    before = weights(denoiser)
    assert len(list(training_loop(training))) == 4 and different(before, weights(denoiser))

    chosen = DistillationSettings(images=48, batch_size=16, loss=Attraction(), generator=ADAM, fake=ADAM)
    phase_2 = Distillation(training.ema.module, law, shape, chosen, objective, seed=0, device=CPU)
    before = weights(phase_2.generator.module)
    (row,) = [p.row for p in training_loop(phase_2) if p.row]
    assert row["score_gap"] >= 0 and math.isfinite(row["fake_loss"])
    assert different(before, weights(phase_2.generator.module))
    for sampler in (OneStep(), Heun(num_steps=4), Heun(num_steps=4, stop_at=law.sigma_max)):
        (drawn,) = generate(phase_2.ema.module, sampler, range(5), shape, corruption=law)
        assert drawn.shape == (5, *shape) and drawn.isfinite().all() and drawn.std() > 1e-3
        if condition:  # the mask was seen: another law of masks gives other images
            (other,) = generate(phase_2.ema.module, sampler, range(5), shape, corruption=_emptied(law))
            assert not torch.allclose(drawn, other)


def _emptied(law: Corruption) -> Corruption:
    """The law with almost nothing observed."""
    name = "p" if isinstance(law, RandomMask) else "kept"
    return law.changed(**{name: 0.99 if name == "p" else 0.01})


def test_classes_reach_both_phases_and_the_sampler(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "y", classes=3)
    assert store.num_classes == 3
    seen: list[Tensor | None] = []

    class Listening(NetworkDenoiser):
        def image(self, given: Noisy) -> Tensor:
            seen.append(given.labels)
            return super().image(given)

    net = tiny_denoiser(classes=3).net
    denoiser = Listening(net, 1, 0.5, 3)
    batches = Batches(store, 16, 0, CPU)
    training = TeacherTraining(
        denoiser, batches, store.corruption, TeacherSettings(images=32, batch_size=16), AmbientTweedie(), seed=0
    )
    training.advance()
    assert seen and torch.equal(seen[0], batches.at(0).labels)  # type: ignore[arg-type]
    seen.clear()
    phase_2 = distillation(teacher=denoiser)
    phase_2.advance()
    first = seen[0]
    assert first is not None and set(first.tolist()) == {0, 1, 2}
    assert all(labels is not None and torch.equal(labels, first) for labels in seen)
    seen.clear()
    (drawn,) = generate(denoiser, OneStep(), range(16), (1, 8, 8), classes=Classes.alike(3))
    assert seen[0] is not None and set(seen[0].tolist()) == {0, 1, 2} and drawn.isfinite().all()


def test_batches_see_every_sample_once_an_epoch(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "y", n=48)
    for resident in (1 << 20, 0):
        batches = Batches(store, 20, 5, CPU, resident_bytes=resident)
        seen = torch.cat([batches.at(k).y for k in range(12)])  # 240 = 5 epochs of 48
        for epoch in seen.split(48):
            assert {tuple(y.flatten().tolist()) for y in epoch} == {
                tuple(y.flatten().tolist()) for y in store.batch(torch.arange(48)).y
            }
        assert not torch.equal(seen[:48], seen[48:96])
        assert torch.equal(batches.at(7).y, Batches(store, 20, 5, CPU).at(7).y)
        assert not torch.equal(batches.at(7).y, Batches(store, 20, 6, CPU).at(7).y)


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    training = teacher_training(tmp_path / "y", AmbientTweedie())
    good, name = training.state(), "denoiser/net.model.map_layer0.weight"
    mistakes = {
        "lacks the tensor": {key: value for key, value in good.items() if key != name},
        "has shape": {**good, name: torch.zeros(2, 2)},
        "holds the tensor": {**good, "denoiser/net.more": torch.zeros(2)},
    }
    for message, state in mistakes.items():
        with pytest.raises(UserError, match=message):
            training.restore(state, 3)


def test_noise_of_a_measurement_is_drawn_once(tmp_path: Path) -> None:
    source = array_source(images(20), layout="NCHW")
    stores = [corrupt_images(source, AdditiveNoise(sigma_n=0.3), tmp_path / n, None, seed=0) for n in "ab"]
    assert stores[0].fingerprint == stores[1].fingerprint
    batches = Batches(stores[0], 20, 0, CPU)
    first, second = (b.y.flatten(1).sort(0).values for b in (batches.at(0), batches.at(1)))
    assert torch.equal(first, second)  # two epochs, the same measurements


def test_everything_that_belongs_to_a_sample_counts_against_the_memory(tmp_path: Path) -> None:
    """Coil maps and masks of k-space are larger than the measurements; what is too large is read batch by batch."""
    law = Mri(acceleration=2, acs=2, coils=4)
    source = with_phase(array_source(images(8), layout="NCHW"), 0)
    store = corrupt_images(source, law, tmp_path / "y", None, seed=0)
    batch = store.batch(torch.arange(8))
    parts = [batch.y, *batch.operator.parameters().values()]
    of_y, of_all = batch.y.nbytes, sum(tensor.nbytes for tensor in parts)
    assert of_all > 2 * of_y and of_all <= store.nbytes < 1.1 * of_all
    fits = {limit: Batches(store, 4, 0, CPU, resident_bytes=limit) for limit in (of_y, of_all - 1, store.nbytes)}
    assert [batches._resident is not None for batches in fits.values()] == [False, False, True]
    one, other = fits[of_y].at(3), fits[store.nbytes].at(3)
    assert torch.equal(one.y, other.y) and different(one.operator.parameters(), other.operator.parameters()) == []


def test_a_signal_after_the_last_look_is_not_lost() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
        reached = True  # the work at hand is finished first
    assert reached and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
