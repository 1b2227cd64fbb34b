"""A third player of phase II, written outside the package: one class, and one entry in a list.

A discriminator looks at real measurements and at re-corrupted generated images; its term reaches the generator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from restill.checkpoint import load_state, save_state
from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.corruption import AdditiveNoise
from restill.diffusion.networks import build_network
from restill.objectives import AmbientTweedie
from restill.runs import load_recipe
from restill.training import Adam, Batches, Distillation, DistillationSettings, Opponent, Work, opponents_of
from restill.training import run as training_loop
from restill.training.cost import network_cost, student_cost
from restill.training.players import Game, Generated, Iteration, Loss
from tiny import different, tiny_denoiser, tiny_store

CPU, LAW, SHAPE = torch.device("cpu"), AdditiveNoise(sigma_n=0.3), (1, 8, 8)
SETTINGS: dict[str, Any] = {"images": 160, "batch_size": 16, "generator": Adam(lr=1e-3), "fake": Adam(lr=1e-3)}


class Critic(Opponent, kind="critic"):
    """Tells real measurements from re-corrupted generated images."""

    needs_measurements = True

    def __init__(self, game: Game) -> None:
        torch.manual_seed(5)
        super().__init__(game, nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.SiLU(), nn.Linear(8, 1)), Adam(lr=1e-2))

    @classmethod
    def work(cls, settings: DistillationSettings) -> Work:
        return Work(parameters=64 * 8 + 8 + 8 + 1)

    def _corrupted(self, images: Tensor, iteration: Iteration) -> Tensor:
        operator = self.game.corruption.draw(len(images), self.game.shape, iteration.random)
        return self.game.corruption.corrupt(images, operator, iteration.random)

    def loss(self, part: Generated, iteration: Iteration) -> Loss:
        assert part.measured is not None and len(part.measured) == len(part.images) and not part.images.requires_grad
        real, fake = self.module(part.measured.y), self.module(self._corrupted(part.images, iteration))
        value = nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()
        return Loss(value, {"right": (real > 0).float().mean()})

    def term(self, part: Generated, iteration: Iteration) -> Loss:
        value = nn.functional.softplus(-self.module(self._corrupted(part.images, iteration))).mean()
        return Loss(value, {"fooled": value.detach()})


def distillation(folder: Path, opponents: tuple[str, ...] = ("fake", "critic"), **more: Any) -> Distillation:
    store = tiny_store(folder / f"store{len(list(folder.iterdir()))}", LAW)
    settings = DistillationSettings(**{**SETTINGS, **more, "opponents": opponents})
    batches = Batches(store, 16, 0, CPU)
    return Distillation(tiny_denoiser(), LAW, SHAPE, settings, AmbientTweedie(), 3, CPU, batches=batches)


@pytest.mark.parametrize("more", [{}, {"accumulate": 2, "share_samples": False}, {"fake_steps": 2}], ids=str)
def test_a_third_player_is_trained_kept_logged_and_continued(tmp_path: Path, more: dict[str, Any]) -> None:
    whole, first, second = (distillation(tmp_path, **more) for _ in range(3))
    start = {name: value.clone() for name, value in whole.state().items()}
    rows = [p.row for p in training_loop(whole, 5) if p.row]
    for progress in training_loop(first, 5):
        if progress.step == 5:
            break
    save_state(tmp_path / "state.safetensors", first.state(), {})
    second.restore(load_state(tmp_path / "state.safetensors")[0], 5)
    again = [p.row for p in training_loop(second, 5) if p.row]
    assert different(whole.state(), second.state()) == []
    critic = {name for name in whole.state() if name.startswith("critic/")}
    assert len(critic) == 4 and critic <= set(different(start, whole.state()))
    assert {"critic_optimiser/exp_avg.1.weight", "critic_optimiser/step.3.bias"} <= whole.state().keys()
    for row, other in zip(rows[1:], again, strict=True):
        assert {"loss", "score_gap", "fooled", "fake_loss", "critic_loss", "critic_right", "critic_grad_norm"} <= set(
            row
        )
        assert all(row[key] == other[key] for key in row if key != "images_per_second")


def test_its_term_reaches_the_generator_and_not_the_critics_weights(tmp_path: Path) -> None:
    """The generator's gradient with the critic is the one without, and that of the critic's term, by autograd."""
    both, alone = distillation(tmp_path), distillation(tmp_path, ("fake",))
    gradients = []
    for training in (alone, both):
        measured = training.batches.at(0) if training.batches else None
        training.generator.take_gradient(Iteration(0, seeded("one"), [measured]))
        gradients.append([p.grad.clone() for p in training.generator.module.parameters() if p.grad is not None])
    critic = both.players["critic"]
    assert all(p.grad is None and p.requires_grad for p in critic.module.parameters())
    random = seeded("one")
    (part,) = both.generator.parts(Iteration(0, random, [None]))
    iteration = Iteration(0, random, [None])
    for opponent in both.generator.game.opponents:
        term = opponent.term(part, iteration)  # in this order, so that the random numbers are the same
    scale = both.settings.loss_scale
    added = torch.autograd.grad(scale * term.value, list(both.generator.module.parameters()), allow_unused=True)
    there = [gradient for gradient in added if gradient is not None]
    assert max(float(gradient.abs().max()) for gradient in there) > 1e-3
    for before, more, after in zip(gradients[0], there, gradients[1], strict=True):
        torch.testing.assert_close(after, before + more, rtol=1e-3, atol=1e-4)


def test_the_critic_learns(tmp_path: Path) -> None:
    """Real measurements among those of a generator that stands still: from guessing to almost always right."""
    training = distillation(tmp_path, images=16 * 40, generator=Adam(lr=1e-9))
    losses = [float(training.advance()["critic_loss"]) for _ in range(40)]
    assert losses[0] > 1.2 and max(losses[-5:]) < 0.5 * losses[0]  # 2 ln 2 is guessing


def test_measurements_are_asked_for_or_not_given() -> None:
    with_critic, without = (
        DistillationSettings(**SETTINGS, opponents=("fake", "critic")),
        DistillationSettings(**SETTINGS),
    )
    with pytest.raises(UserError, match="opponent critic needs measurements"):
        Distillation(tiny_denoiser(), LAW, SHAPE, with_critic, AmbientTweedie(), 3, CPU)
    assert not any(opponent.needs_measurements for opponent in opponents_of(without))
    training = Distillation(tiny_denoiser(), LAW, SHAPE, without, AmbientTweedie(), 3, CPU)
    assert training._iteration(seeded("x"), 0).measured == [None]


@pytest.mark.parametrize(
    ("opponents", "message"),
    [
        ("[fake, crytic]", r"student.opponents\[1\]: 'crytic' is not a known kind: use one of critic, fake"),
        ("[critic, critic]", "student.opponents: must name each kind once, not critic, critic"),
        ("[]", "student.opponents: must hold at least 1, not 0"),
    ],
)
def test_recipes_name_opponents(opponents: str, message: str) -> None:
    recipe = load_recipe("digits-noise", ["student.opponents=[fake, critic]"])
    assert opponents_of(recipe.student)[1] is Critic
    with pytest.raises(UserError, match=message):
        load_recipe("digits-noise", [f"student.opponents={opponents}"])


def test_its_cost_is_counted() -> None:
    network = {
        "model_type": "SongUNet", "img_resolution": 8, "img_channels": 1, "model_channels": 16, "channel_mult": [1],
        "num_blocks": 1, "attn_resolutions": [],
    }  # fmt: skip
    cost, settings = network_cost("EDMPrecond", network, SHAPE), DistillationSettings(**SETTINGS)
    parameters = sum(p.numel() for p in build_network("EDMPrecond", network).parameters())
    two, three = student_cost(cost, settings), student_cost(cost, settings.changed(opponents=("fake", "critic")))
    assert two.weights["weights"] == 3 * parameters and two.weights["gradients"] == 2 * parameters
    more = {name: three.weights[name] - two.weights[name] for name in two.weights}
    assert more == {"weights": 529, "averages": 0, "gradients": 529, "Adam's moments": 2 * 529}
