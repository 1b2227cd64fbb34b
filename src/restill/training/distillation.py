"""Phase II: the student, distilled from the frozen teacher through the same corruption."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.kinds import of_kind
from ..core.processes import ALONE, Processes
from ..core.tensors import seeded
from ..corruption import Corruption
from ..diffusion import Denoiser
from ..objectives import AmbientTweedie, Objective, generator_levels, noised
from ..sampling import Classes
from .batches import Batches, selected
from .ema import EMA, frozen_copy
from .players import Game, Generated, Iteration, Loss, Opponent, Player, Work
from .pool import Below
from .posthoc import PowerEMA
from .settings import DistillationSettings
from .state import Training
from .update import Update


class Generator(Player[Denoiser]):
    """The student `G(z) = D(init_sigma z; init_sigma)`; its loss is the sum of its opponents' terms."""

    kind = "student"

    def __init__(self, game: Game) -> None:
        settings = game.settings
        # dropout stays off: the generator is a deterministic map of z, and the fake score is compared with the teacher
        student = frozen_copy(game.start).requires_grad_(True)
        self.ema = EMA(student, settings.ema)
        powers = {_key(sigma_rel): PowerEMA(student, sigma_rel) for sigma_rel in settings.power_ema}
        self._powers, averages = tuple(powers.values()), {"ema": self.ema, **powers}
        super().__init__(game, student, settings.generator, averages=averages, scale=settings.loss_scale)

    @property
    def powers(self) -> list[PowerEMA[Denoiser]]:
        """Averages from which those of other lengths are made after the run."""
        return [power for power in self._powers if _key(power.sigma_rel) in self.update.averages]

    @classmethod
    def work(cls, settings: DistillationSettings) -> Work:
        averages = 1 + len(settings.power_ema)
        return Work(forward=1, to_weights=1, graphs=1, networks=1, trained=1, averages=averages)

    def parts(self, iteration: Iteration) -> Iterable[Generated]:
        """New images, with a graph where gradients are enabled; kept without it for the opponents."""
        for measured in iteration.measured:
            part = self._drawn(iteration.random)._replace(measured=measured)
            yield part
            iteration.drawn.append(part._replace(images=part.images.detach()))

    def _drawn(self, random: torch.Generator) -> Generated:
        game = self.game
        n = game.settings.batch_size // game.settings.accumulate
        z = torch.randn(n, *game.white, generator=random, device=game.device)
        labels = None
        if game.teacher.num_classes:
            labels = (game.classes or Classes.alike(game.teacher.num_classes)).draw(n, random)
        shown = game.corruption.further(game.corruption.draw(n, game.shape, random), random)
        return Generated(self.module.generated(z, game.settings.init_sigma, shown, labels), labels, None)

    def loss(self, part: Generated, iteration: Iteration) -> Loss:
        """The sum of the opponents' terms."""
        terms = [opponent.term(part, iteration) for opponent in self.game.opponents]
        log = {name: value for term in terms for name, value in term.log.items()}
        return Loss(torch.stack([term.value for term in terms]).sum(), log)


class FakeScore(Opponent[Denoiser], kind="fake"):
    """The score of the re-corrupted generated images, with which the teacher's is compared."""

    def __init__(self, game: Game) -> None:
        settings = game.settings
        steps = settings.fake_steps if settings.loss.uses_fake else 0
        super().__init__(game, frozen_copy(game.teacher).requires_grad_(True), settings.fake, steps=steps)

    @classmethod
    def work(cls, settings: DistillationSettings) -> Work:
        loss = settings.loss
        scores, steps = 1 + loss.uses_fake, settings.fake_steps * loss.uses_fake
        drawn_anew = steps - (settings.share_samples and loss.uses_fake)
        return Work(
            forward=scores + steps + drawn_anew,
            to_weights=steps,
            to_input=scores * loss.through_networks,
            graphs=scores * loss.through_networks,
            networks=1,
            trained=int(loss.uses_fake),
        )

    def loss(self, part: Generated, iteration: Iteration) -> Loss:
        """The phase-I objective on freshly re-corrupted images."""
        game, random = self.game, iteration.random
        operator = game.corruption.draw(len(part.images), game.shape, random)
        operator = operator if game.below is None else game.below.noiseless(operator)
        y = game.corruption.corrupt(part.images, operator, random)
        y = y if game.below is None else game.below.cleared(y, operator.apply(part.images))
        further = game.corruption.further(operator, random)
        draw = game.objective.draw(operator, game.white, random)
        draw = draw if game.below is None else game.below.lowered(draw, random)
        return Loss(game.objective(self.module, y, operator, further, draw, part.labels).mean(), {})

    def term(self, part: Generated, iteration: Iteration) -> Loss:
        """The distillation loss: teacher against fake score on `u = A(x_g)`, to which no sigma_n noise is added."""
        game, settings, random, n = self.game, self.game.settings, iteration.random, len(part.images)
        operator = game.corruption.draw(n, game.shape, random)
        further = game.corruption.further(operator, random)
        observed = operator.apply(part.images)
        sigma = generator_levels(n, settings.tmax, random)
        noise = torch.randn(n, *game.white, generator=random, device=game.device)
        x_t = noised(observed, further, sigma, noise).x_t
        prior = game.teacher.prior
        u = prior.balanced(operator.observed(observed))

        def compared(denoiser: Denoiser) -> Tensor:
            return prior.balanced(operator.predicted(denoiser(x_t, sigma, further, part.labels)))

        with torch.set_grad_enabled(settings.loss.through_networks):
            a = compared(game.teacher)
            b = compared(self.module) if settings.loss.uses_fake else a.detach()
        gap = (a.detach() - b.detach()).flatten(1).norm(dim=1).mean()
        each = settings.loss(u, x_t, a, b, sigma)
        if each.shape != (n,):
            raise UserError(
                f"student.loss: kind {settings.loss.kind!r} must return one value for each of the {n} images, not the "
                f"shape {list(each.shape)}"
            )
        return Loss(each.mean(), {"score_gap": gap})


def opponents_of(settings: DistillationSettings) -> list[type[Opponent[Any]]]:
    """The classes of the generator's opponents. Raises UserError for an unknown kind, or a kind that is named twice."""
    chosen = settings.opponents
    if len(set(chosen)) < len(chosen):
        raise UserError(f"student.opponents: must name each kind once, not {', '.join(chosen)}")
    return [of_kind(Opponent, kind, f"student.opponents[{k}]") for k, kind in enumerate(chosen)]


def _key(sigma_rel: float) -> str:
    """Name of a power average in a state."""
    return f"power-{sigma_rel:g}"


class Distillation(Training):
    """Distils a frozen teacher into a one-step generator (RSD, algorithm 1).

    One iteration updates the generator once and each opponent `steps` times. The generator, the fake score and
    the averages all start from the teacher. Randomness of iteration `k` is a function of `seed` and `k`.

    Args:
        teacher: the trained denoiser; it is copied, frozen, and never changed.
        corruption: of the measurements; every generated image goes through it.
        shape: of an image, `(C, H, W)`.
        objective: of the fake score; the teacher's own (another one diverges).
        batches: real measurements in batches of `settings.batch_size`, for opponents that need them.
        classes: of a class-conditional teacher, how often each is drawn; all equally often where this is None.
        processes: each has a share of a batch (not there yet: `Update`).
        below: the levels below the noise of the measurements, of a teacher that was refined there; the fake score
            learns them from what the generator draws, without noise.

    Raises:
        UserError: an opponent needs measurements and there are no batches.
    """

    def __init__(
        self,
        teacher: Denoiser,
        corruption: Corruption,
        shape: tuple[int, ...],
        settings: DistillationSettings,
        objective: Objective = AmbientTweedie(),
        seed: int = 0,
        device: torch.device = torch.device("cpu"),
        *,
        batches: Batches | None = None,
        classes: Classes | None = None,
        processes: Processes = ALONE,
        below: Below | None = None,
    ) -> None:
        super().__init__(settings.images, settings.batch_size, device)
        self.corruption, self.settings, self.batches, self.seed = corruption, settings, batches, seed
        self.teacher = frozen_copy(teacher)
        known = (self.teacher, corruption, shape, settings, objective, device, self.guard, processes, classes)
        game = Game(*known, below=below)
        self.generator = Generator(game)
        game.opponents.extend(opponent(game) for opponent in opponents_of(settings))  # type: ignore[call-arg]
        game.players.extend([self.generator, *game.opponents])
        self.players: dict[str, Player[Any]] = {player.kind: player for player in game.players}
        for player in game.players:
            if player.needs_measurements and batches is None:
                raise UserError(f"opponent {player.kind} needs measurements; pass batches of them to the distillation")

    @property
    def updates(self) -> Sequence[Update[Any]]:
        return [player.update for player in self.players.values()]

    @property
    def ema(self) -> EMA[Denoiser]:
        """The averaged generator, which is the result."""
        return self.generator.ema

    def advance(self) -> dict[str, Tensor]:
        """One iteration; returns values to log, 0-dimensional. All gradients are checked before any is applied."""
        random = seeded("distillation", self.seed, self.step, device=self.device)
        playing, iteration = [player for player in self.players.values() if player.steps], self._iteration(random, 0)
        log: dict[str, Tensor] = {}
        for player in playing:
            prefix = "" if player is self.generator else f"{player.kind}_"
            log |= {f"{prefix}{name}": value for name, value in player.take_gradient(iteration).items()}
        for player in reversed(playing):  # the generator last, so that its opponents are fitted to what it drew
            player.update.apply(self.images_seen, self.batch_size)
            for repeat in range(1, player.steps):
                player.take_gradient(self._iteration(random, repeat))
                player.update.apply(self.images_seen, self.batch_size)
        self.step += 1
        return log

    def _iteration(self, random: torch.Generator, repeat: int) -> Iteration:
        parts = self.settings.accumulate
        if self.batches is None:
            return Iteration(self.step, random, [None] * parts)
        most = max(player.steps for player in self.players.values())
        batch = self.batches.at(self.step * most + repeat)
        index = torch.arange(len(batch), device=self.device)
        return Iteration(self.step, random, [selected(batch, part) for part in index.chunk(parts)])
