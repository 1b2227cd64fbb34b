"""Phase II from inside: what the generator, the teacher and the fake score are given, compared and trained with.

The denoisers are `x_t / 10 + picture`, so that everything can be followed by hand; samples are many and small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from listening import Asked, Compared, Listening, ListeningLoss, ListeningObjective, Said
from restill.core.tensors import seeded
from restill.corruption import AdditiveNoise, Blur, Compose, Corruption, Mask, Mri, Operator
from restill.diffusion import Prior
from restill.objectives import DistillationLoss, SiD
from restill.training import Adam, Average, Batches, Distillation, DistillationSettings, Opponent, Work
from restill.training import run as training_loop
from restill.training.players import Game, Generated, Iteration, Loss
from restill.training.posthoc import gamma_of
from tiny import different, tiny_denoiser, tiny_store

CPU, SHAPE, N = torch.device("cpu"), (1, 8, 8), 500
PIXELS = N * math.prod(SHAPE)
MASKS = Mask(p=0.4, delta=0.25, sigma_n=0.3)
BOTH = {"generator": Adam(lr=1e-3), "fake": Adam(lr=1e-3)}


@pytest.fixture(autouse=True)
def _nothing_heard_before() -> Iterator[None]:
    ListeningLoss.seen.clear()
    ListeningObjective.seen.clear()
    yield
    ListeningLoss.seen.clear()
    ListeningObjective.seen.clear()


def distillation(
    law: Corruption = MASKS, shape: tuple[int, int, int] = SHAPE, seed: int = 0, **more: Any
) -> Distillation:
    """With listening denoisers, of which the fake score's picture is another one from the start."""
    teacher = more.pop("teacher", None) or Listening(shape, more.pop("classes", 0))
    settings = DistillationSettings(
        **{"images": 8 * N, "batch_size": N, "snapshots": 0, "loss": ListeningLoss(), **BOTH, **more}
    )
    training = Distillation(teacher, law, shape, settings, ListeningObjective(), seed, CPU)
    fake = training.players["fake"].module
    if isinstance(fake, Listening):
        with torch.no_grad():
            fake.picture += 0.2
    return training


def update_of_the_generator(training: Distillation, seed: str = "z") -> tuple[Iteration, dict[str, Said], Compared]:
    """Take the generator's gradient; the calls of student, teacher and fake score, and what was compared."""
    calls = training.teacher.calls  # type: ignore[union-attr,operator]
    calls.clear()
    iteration = Iteration(0, seeded(seed), [None] * training.settings.accumulate)
    training.generator.take_gradient(iteration)
    modules = {"teacher": training.teacher, **{name: player.module for name, player in training.players.items()}}
    said = {name: call for name, module in modules.items() for call in calls if call[0] is module}
    return iteration, said, ListeningLoss.seen[-1]


def mask_of(operator: Operator | None) -> Tensor:
    assert operator is not None
    condition = operator.condition()
    assert condition is not None
    return condition.bool()


def expect_share(mask: Tensor, share: float) -> None:
    """Within 5 standard errors of independent pixels."""
    assert abs(mask.double().mean() - share) < 5 * (share * (1 - share) / mask.numel()) ** 0.5


# the generator's update


def test_the_generator_is_shown_thinned_masks() -> None:
    """n = 32,000 pixels: of the mask that the generator is shown a share (1 - p)(1 - delta) is left; z is white."""
    _, said, _ = update_of_the_generator(distillation(init_sigma=1.7))
    given = said["student"][1]
    shown = mask_of(given.operator)
    expect_share(shown, 0.6 * 0.75)
    assert (given.x_t[~shown] == 0).all() and (torch.as_tensor(given.sigma) == 1.7).all()
    z = given.x_t[shown] / 1.7
    assert abs(z.mean()) < 5 / len(z) ** 0.5 and abs(z.var() - 1) < 5 * (2 / len(z)) ** 0.5


def test_scores_are_compared_on_re_corrupted_images_without_noise() -> None:
    """u is A(x_g) itself; residuals are masked by the mask of the corruption, of which a share 1 - p is observed."""
    _, said, compared = update_of_the_generator(distillation())
    drawn, (_, given, teachers), fakes = said["student"][2], said["teacher"], said["fake"][2]
    observed, shown = compared.u != 0, mask_of(given.operator)
    expect_share(observed, 0.6)
    expect_share(shown, 0.6 * 0.75)
    assert (shown <= observed).all()
    for got, whole in ((compared.u, drawn), (compared.a, teachers), (compared.b, fakes)):
        assert torch.equal(got, torch.where(observed, whole, 0.0))
    assert (teachers - fakes).abs().min() > 0.1


def test_scores_see_the_further_mask_and_noise_of_the_drawn_level() -> None:
    """n = 14,000 shown pixels: x_t = A~(x_g) + s n, with n white; both scores are given the same."""
    _, said, compared = update_of_the_generator(distillation())
    given = said["teacher"][1]
    shown, sigma = mask_of(given.operator), torch.as_tensor(given.sigma)
    assert torch.equal(given.x_t != 0, shown) and torch.equal(compared.x_t, given.x_t)
    assert torch.equal(compared.sigma, sigma)
    n = ((given.x_t - compared.u) / sigma.view(-1, 1, 1, 1))[shown]
    assert abs(n.mean()) < 5 / len(n) ** 0.5 and abs(n.var() - 1) < 5 * (2 / len(n)) ** 0.5
    other = said["fake"][1]
    assert torch.equal(other.x_t, given.x_t) and torch.equal(mask_of(other.operator), shown)


@pytest.mark.parametrize("tmax", [800, 300])
def test_levels_of_the_generator_reach_from_the_smallest_to_tmax(tmax: int) -> None:
    """n = 500: quartiles of t, which is uniform in [0, tmax / 1000], within 5 standard errors; sigma_n is no limit."""
    _, _, compared = update_of_the_generator(distillation(AdditiveNoise(sigma_n=5.0), tmax=tmax))
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    t = 1 - (compared.sigma.double() ** (1 / 7) - high) / (low - high)
    uniform = t / (tmax / 1000)
    assert -1e-4 < float(uniform.min()) < float(uniform.max()) < 1 + 1e-4
    for q in (0.25, 0.5, 0.75):
        assert abs(uniform.quantile(q) - q) < 5 * (q * (1 - q) / N) ** 0.5
    assert (compared.sigma < 5.0).any()


@pytest.mark.parametrize(
    ("law", "shape", "prior"),
    [
        (AdditiveNoise(sigma_n=0.3), (1, 8, 8), None),
        (Mask(p=0.5), (2, 6, 8), None),
        (Compose(operators=("downsampling", {"kind": "mask", "p": 0.4})), (1, 8, 8), None),
        (Mri(acceleration=2, acs=2, coils=3), (2, 8, 8), Prior.stationary((9.0, 1.0, 0.3), 8, 8)),
    ],
    ids=["noise", "masks", "masks on a coarse grid", "coils"],
)
def test_a_generator_that_draws_what_the_teacher_sees_has_no_residual(
    law: Corruption, shape: tuple[int, int, int], prior: Prior | None
) -> None:
    """If D = x_g, then a = u in every entry that is compared: observation and prediction go the same way."""

    class Certain(Listening):
        def image(self, given: Any) -> Tensor:
            return self.picture.expand(len(given.x_t), *shape)

    training = distillation(law, shape, teacher=Certain(shape, prior=prior), batch_size=8)
    training.generator.take_gradient(Iteration(0, seeded("z"), [None]))
    (compared,) = ListeningLoss.seen
    assert compared.u.abs().max() > 0.1
    torch.testing.assert_close(compared.a, compared.u, rtol=1e-5, atol=1e-5)


def test_noise_is_drawn_where_it_is_white() -> None:
    """Several coils: n = 8 x 48,384 numbers of k-space are white, in all coils; the generator's z too."""
    law, shape, coils = Mri(acceleration=1, acs=2, coils=6), (2, 12, 12), 6
    training = distillation(law, shape, batch_size=8)
    _, said, compared = update_of_the_generator(training)
    given = said["teacher"][1]
    operator, sigma = given.operator, torch.as_tensor(given.sigma).view(-1, 1, 1, 1)
    assert operator is not None
    noise = (given.x_t - operator.extract(compared.u)) / sigma
    variance = operator.extract(torch.randn(8, 2 * coils, 12, 12, generator=seeded("white"))).var()
    assert abs(noise.var() / variance - 1) < 5 * (2 / noise.numel()) ** 0.5 * 2
    assert training.generator.game.white == (2 * coils, 12, 12)


def test_classes_of_the_images_are_told_to_all() -> None:
    """Each image has one class for generator, scores and objective; n = 500 over three classes, 5 standard errors."""
    training = distillation(AdditiveNoise(sigma_n=0.3), classes=3)
    iteration, said, _ = update_of_the_generator(training)
    (part,) = iteration.drawn
    labels = part.labels
    assert labels is not None and (labels.bincount(minlength=3) - N / 3).abs().max() < 5 * (N * 2 / 9) ** 0.5
    training.players["fake"].take_gradient(iteration)
    told = [said[name][1].labels for name in ("student", "teacher", "fake")]
    for given in (*told, ListeningObjective.seen[-1].labels):
        assert given is not None and torch.equal(given, labels)


def test_a_loss_is_scaled_by_its_scale_and_is_a_mean() -> None:
    """The gradient of mean(u sg(b - a)) by hand, over images and entries, times `loss_scale`."""
    gradients = {}
    for scale in (1.0, 7.0):
        training = distillation(loss_scale=scale)
        update_of_the_generator(training)
        gradients[scale] = training.generator.module.picture.grad
    assert gradients[1.0].abs().max() > 1e-6
    torch.testing.assert_close(gradients[7.0], 7 * gradients[1.0])
    training = distillation(AdditiveNoise(), loss_scale=1.0)
    iteration = Iteration(0, seeded("z"), [None])
    log = training.generator.take_gradient(iteration)
    compared = ListeningLoss.seen[-1]
    residual = compared.b - compared.a
    expected = residual.mean(0) / math.prod(SHAPE)
    torch.testing.assert_close(training.generator.module.picture.grad, expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(log["score_gap"], residual.flatten(1).norm(dim=1).mean())
    torch.testing.assert_close(log["loss"], (compared.u * residual).mean(), rtol=1e-4, atol=1e-5)


# the fake score


def asked_of_the_fake(training: Distillation) -> tuple[Asked, Generated]:
    iteration, _, _ = update_of_the_generator(training)
    training.players["fake"].take_gradient(iteration)
    return ListeningObjective.seen[-1], iteration.drawn[0]


def test_the_fake_score_learns_from_measurements_of_the_images() -> None:
    """n = 19,000 observed pixels: y = M (x_g + sigma_n eps), within 5 standard errors; 0 where nothing is measured."""
    training = distillation()
    asked, part = asked_of_the_fake(training)
    observed = mask_of(asked.operator)
    expect_share(observed, 0.6)
    assert asked.denoiser is training.players["fake"].module and torch.equal(asked.y != 0, observed)
    eps = ((asked.y - part.images) / 0.3)[observed]
    assert abs(eps.mean()) < 5 / len(eps) ** 0.5 and abs(eps.var() - 1) < 5 * (2 / len(eps)) ** 0.5
    assert not part.images.requires_grad


def test_the_fake_score_is_shown_thinned_masks_and_asked_for_all_that_was_measured() -> None:
    asked, _ = asked_of_the_fake(distillation())
    observed, shown = mask_of(asked.operator), mask_of(asked.further)
    assert (shown <= observed).all()
    expect_share(shown[observed], 0.75)
    assert (asked.draw.sigma >= 0.3).all()  # no level below the noise of the measurements


def test_the_loss_of_the_fake_score_is_the_mean_of_its_objective() -> None:
    training = distillation()
    iteration, _, _ = update_of_the_generator(training)
    log = training.players["fake"].take_gradient(iteration)
    asked = ListeningObjective.seen[-1]
    each = ListeningObjective()(asked.denoiser, asked.y, asked.operator, asked.further, asked.draw)
    torch.testing.assert_close(log["loss"], each.mean().detach())


def test_a_fake_score_that_is_right_only_where_it_is_shown_has_a_gradient() -> None:
    """Pixels that the further mask hides are where filling gaps is learned: the loss of a wrong guess is there."""

    class Copying(Listening):
        """Right where a pixel is shown, without noise in the data; `picture` elsewhere."""

        def image(self, given: Any) -> Tensor:
            shown = mask_of(given.operator)
            return torch.where(shown, torch.zeros_like(given.x_t), self.picture.expand_as(given.x_t))

    training = distillation(Mask(p=0.4, delta=0.25), teacher=Copying(SHAPE))
    fake, random = training.players["fake"], seeded("fake")
    part = Generated(torch.zeros(N, *SHAPE), None, None)  # images that are 0, as the copy says where it is shown them
    fake.loss(part, Iteration(0, random, [None])).value.backward()
    slope = fake.module.picture.grad
    assert (slope.sign() == fake.module.picture.sign()).all() and slope.abs().mean() > 1e-3


@pytest.mark.parametrize("law", [AdditiveNoise(sigma_n=0.3), MASKS, Blur(size=3)], ids=["noise", "masks", "blur"])
def test_at_the_start_fake_score_and_teacher_agree_exactly(law: Corruption) -> None:
    """Dropout included: the networks are copies, compared in evaluation mode, on the same input."""
    condition = law.shapes(SHAPE).condition
    settings = DistillationSettings(images=64, batch_size=16, loss=SiD(), **BOTH)
    teacher = tiny_denoiser(condition=condition, dropout=0.5).train()
    training = Distillation(teacher, law, SHAPE, settings, ListeningObjective(), 0, CPU)
    log = training.advance()
    assert log["score_gap"] == 0 and log["fake_loss"] > 0
    assert training.advance()["score_gap"] > 1e-4


def test_no_player_has_dropout() -> None:
    """The same images and the same loss twice, from the same random numbers, also after some iterations."""
    settings = DistillationSettings(images=64, batch_size=16, loss=SiD(), **BOTH)
    training = Distillation(tiny_denoiser(dropout=0.5).train(), AdditiveNoise(sigma_n=0.3), SHAPE, settings, seed=0)
    for _ in range(2):
        training.advance()
    parts = [next(iter(training.generator.parts(Iteration(0, seeded("z"), [None])))) for _ in range(2)]
    assert torch.equal(parts[0].images, parts[1].images)
    fake = training.players["fake"]
    losses = [fake.loss(parts[0], Iteration(0, seeded("n"), [None])).value for _ in range(2)]
    assert torch.equal(*losses)
    assert not any(m.training for m in (training.teacher, training.generator.module, fake.module, training.ema.module))


def test_the_teacher_is_a_frozen_copy() -> None:
    teacher = tiny_denoiser(dropout=0.5).train()
    settings = DistillationSettings(images=64, batch_size=16, loss=SiD(), **BOTH)
    training = Distillation(teacher, AdditiveNoise(sigma_n=0.3), SHAPE, settings, seed=0)
    before = {name: value.clone() for name, value in training.teacher.state_dict().items()}
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.zero_()
    training.advance()
    assert different(before, dict(training.teacher.state_dict())) == []
    assert not any(p.requires_grad for p in training.teacher.parameters())


# random numbers


def test_iterations_and_seeds_draw_other_numbers_and_the_same_ones_again() -> None:
    """Latents, masks, levels and noise of the generator's update and of the fake score's."""
    heard: dict[str, list[Tensor]] = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        training = distillation(seed=seed)
        for _ in range(2):
            calls = training.teacher.calls  # type: ignore[union-attr]
            calls.clear()
            training.advance()
            student = next(given for module, given, _ in calls if module is training.generator.module)
            asked, compared = ListeningObjective.seen[-1], ListeningLoss.seen[-1]
            noise = [student.x_t, compared.x_t, compared.sigma, asked.y, asked.draw.noise, asked.draw.sigma]
            masks = [mask_of(student.operator), mask_of(asked.operator), mask_of(asked.further)]
            heard.setdefault(name, []).extend([*noise, *masks])
    half = len(heard["first"]) // 2
    for k in range(half):
        assert not torch.equal(heard["first"][k], heard["first"][half + k]), k
    for one, again, other in zip(heard["first"], heard["again"], heard["other"], strict=True):
        assert torch.equal(one, again) and not torch.equal(one, other)


# whole iterations


@pytest.mark.parametrize("share", [True, False])
def test_the_fake_score_learns_from_the_generators_images_or_from_new_ones(share: bool) -> None:
    training = distillation(AdditiveNoise(), share_samples=share)
    iteration, _, _ = update_of_the_generator(training)
    drawn = iteration.drawn[0].images.clone()
    training.players["fake"].take_gradient(iteration)
    assert torch.equal(ListeningObjective.seen[-1].y, drawn) == share


def test_further_fits_see_the_images_of_the_generator_that_was_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """All updates of the fake score come before the generator's, each from images of its own."""
    training = distillation(fake_steps=3)
    order: list[str] = []
    for name, player in training.players.items():
        apply = player.update.apply

        def applied(*args: Any, name: str = name, apply: Any = apply) -> None:
            order.append(name)
            apply(*args)

        monkeypatch.setattr(player.update, "apply", applied)
    training.advance()
    assert order == ["fake", "fake", "fake", "student"]
    images = [asked.y for asked in ListeningObjective.seen]
    assert len(images) == 3 and not any(torch.equal(images[0], other) for other in images[1:])


class Onlooker(Opponent, kind="test-onlooker"):
    """An opponent that keeps the measurements that it is given."""

    needs_measurements = True

    def __init__(self, game: Game) -> None:
        self.seen: list[Tensor] = []
        super().__init__(game, nn.Linear(1, 1), Adam(), steps=2)

    @classmethod
    def work(cls, settings: DistillationSettings) -> Work:
        return Work()

    def loss(self, part: Generated, iteration: Iteration) -> Loss:
        assert part.measured is not None
        self.seen.append(part.measured.y)
        return Loss(self.module.weight.sum(), {})

    def term(self, part: Generated, iteration: Iteration) -> Loss:
        return Loss(0 * part.images.sum() + self.module.weight.sum(), {})


def test_opponents_see_all_measurements_in_turn(tmp_path: Path) -> None:
    """Two updates of two parts each: together the batches of the store, one after the other."""
    store = tiny_store(tmp_path / "y")
    settings = DistillationSettings(
        images=64, batch_size=16, accumulate=2, loss=ListeningLoss(), opponents=("fake", "test-onlooker"), **BOTH
    )
    batches = Batches(store, 16, 0, CPU)
    training = Distillation(Listening(SHAPE), store.corruption, SHAPE, settings, seed=0, batches=batches)
    for _ in range(2):
        training.advance()
    onlooker = training.players["test-onlooker"]
    assert isinstance(onlooker, Onlooker)
    assert [len(y) for y in onlooker.seen] == [8] * 8
    assert torch.equal(torch.cat(onlooker.seen), torch.cat([batches.at(k).y for k in range(4)]))


def test_a_players_loss_leaves_no_gradient_in_the_others(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "y")
    settings = DistillationSettings(images=64, batch_size=16, loss=SiD(), opponents=("fake", "test-onlooker"), **BOTH)
    batches = Batches(store, 16, 0, CPU)
    training = Distillation(tiny_denoiser(), store.corruption, SHAPE, settings, seed=0, batches=batches)
    iteration = training._iteration(seeded("z"), 0)
    training.generator.take_gradient(iteration)
    for name, player in training.players.items():
        there = [p.grad is not None for p in player.module.parameters()]
        assert all(there) if name == "student" else not any(there), name
        assert all(p.requires_grad for p in player.module.parameters())
    own = [p.grad.clone() for p in training.generator.module.parameters() if p.grad is not None]
    training.players["fake"].take_gradient(iteration)
    now = [p.grad for p in training.generator.module.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(own, now, strict=True))


# optimisers, averages, parts of a batch


def test_each_player_has_the_optimiser_of_the_recipe() -> None:
    """Adam by its definition: first moment (1 - beta1) g, second (1 - beta2) g^2, first step lr, decays to the end."""
    adams = {
        "student": Adam(lr=2e-3, beta1=0.6, beta2=0.95, decay="linear"),
        "fake": Adam(lr=5e-4, beta1=0.0, beta2=0.8, decay="cosine", final=0.5),
    }
    training = distillation(generator=adams["student"], fake=adams["fake"], images=4 * N)
    iteration, _, _ = update_of_the_generator(training)
    training.players["fake"].take_gradient(iteration)
    for name, player in training.players.items():
        adam, weight = adams[name], player.module.picture
        gradient, before = weight.grad.clone(), weight.detach().clone()
        player.update.apply(0, N)
        moments = player.update.moments()
        torch.testing.assert_close(moments["exp_avg.picture"], (1 - adam.beta1) * gradient)
        torch.testing.assert_close(moments["exp_avg_sq.picture"], (1 - adam.beta2) * gradient.square())
        assert (before - weight).abs().max().item() == pytest.approx(adam.lr, rel=1e-2)
        rates = []
        for seen in range(0, 4 * N, N):
            weight.grad = gradient
            player.update.apply(seen, N)
            rates.append(player.update.optimiser.param_groups[0]["lr"] / adam.lr)
        expected = {
            "student": [1, 0.75, 0.5, 0.25],
            "fake": [0.75 + 0.25 * math.cos(math.pi * k / 4) for k in range(4)],
        }
        assert rates == pytest.approx(expected[name])


def test_averages_are_those_of_the_weights() -> None:
    """By the definitions: half-life min(h, r t) for the student's, profiles (t_i/T)^(gamma+1) for power averages."""
    average = Average(halflife_images=4 * N, rampup=0.7)
    training = distillation(ema=average, snapshots=4, images=8 * N, generator=Adam(lr=0.1))
    path = []
    expected = training.generator.module.picture.detach().clone()
    for k in range(8):
        training.advance()
        path.append(training.generator.module.picture.detach().clone())
        halflife = min(4 * N, 0.7 * k * N)
        kept = 0.5 ** (N / halflife) if halflife else 0.0
        expected = kept * expected + (1 - kept) * path[-1]
        torch.testing.assert_close(training.ema.module.picture, expected, rtol=1e-4, atol=1e-5)
    assert (path[-1] - expected).abs().max() > 0.05
    assert len(training.generator.powers) == 2
    for power in training.generator.powers:
        edges = (torch.arange(9) / 8) ** (gamma_of(power.sigma_rel) + 1)
        whole = (edges.diff()[:, None, None, None] * torch.stack(path)).sum(0)
        torch.testing.assert_close(power.module.picture, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("player", ["student", "fake"])
def test_accumulated_gradients_are_those_of_the_whole_batch(player: str) -> None:
    """After four iterations, when the scores differ: the mean over the parts, to single precision of its largest."""
    settings = {"images": 160, "loss": SiD(), **BOTH}
    law, networks = AdditiveNoise(sigma_n=0.3), tiny_denoiser()
    one, two = (
        Distillation(networks, law, SHAPE, DistillationSettings(**settings, **sizes), seed=0)
        for sizes in ({"batch_size": 8}, {"batch_size": 16, "accumulate": 2})
    )
    for _ in range(4):
        two.advance()
    one.restore({name: value.clone() for name, value in two.state().items()}, 4)
    halves, iteration = (
        [Iteration(0, seeded("parts"), [None]) for _ in range(2)],
        Iteration(0, seeded("parts"), [None] * 2),
    )
    halves[1].random = halves[0].random
    if player == "fake":  # its images are drawn before
        iteration.drawn = two.generator.game.drawn_anew(Iteration(0, seeded("images"), [None] * 2))
        halves[0].drawn, halves[1].drawn = iteration.drawn[:1], iteration.drawn[1:]
    rows = [one.players[player].take_gradient(half) for half in halves]
    log = two.players[player].take_gradient(iteration)
    modules = one.players[player].module, two.players[player].module
    parts, whole = (torch.cat([p.grad.flatten() for p in module.parameters()]) for module in modules)  # type: ignore[union-attr]
    assert whole.abs().max() > 1e-4
    torch.testing.assert_close(whole, parts / 2, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))
    for name, value in log.items():
        if name != "grad_norm":
            torch.testing.assert_close(value, (rows[0][name] + rows[1][name]) / 2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(log["grad_norm"], whole.norm(), rtol=1e-4, atol=0)


def test_terms_of_opponents_add_up() -> None:
    class Constant(ListeningLoss):
        """3 for every image."""

        def __call__(self, u: Tensor, x_t: Tensor, a: Tensor, b: Tensor, sigma: Tensor) -> Tensor:
            return 0 * u.flatten(1).mean(1) + 3

    loss: DistillationLoss = Constant()
    training = distillation(loss=loss, batch_size=8)
    game = training.generator.game
    game.opponents.append(game.opponents[0])
    log = training.generator.take_gradient(Iteration(0, seeded("z"), [None]))
    assert log["loss"] == 6


def test_rows_of_the_log_are_means_and_the_last_one_is_there() -> None:
    """Every third step and the last, which has no row of its own otherwise."""
    training = distillation(AdditiveNoise(), images=20, batch_size=1)
    rows = {progress.step: progress.row for progress in training_loop(training, 3) if progress.row}
    assert list(rows) == [3, 6, 9, 12, 15, 18, 20] and training.images_seen == 20
