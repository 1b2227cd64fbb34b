"""Who takes part in phase II: the generator, and opponents that are fitted to what it draws.

Each player is a module with its update and its gradient. `Distillation` loops over them; so do the state, the log and
the estimate of cost. An opponent is one class of a kind that recipes name in `student.opponents`:

    class Critic(Opponent, kind="critic"):
        def __init__(self, game): ...       # its module and optimiser
        def loss(self, part, iteration): ...  # what it minimises
        def term(self, part, iteration): ...  # what it adds to the generator's loss
        def work(cls, settings): ...        # its cost
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, NamedTuple, final

import torch
from torch import Tensor

from ..core.kinds import Pluggable
from ..core.processes import ALONE, Processes
from ..corruption import Corruption
from ..diffusion import Denoiser, HandedOver
from ..objectives import Objective
from ..sampling import Classes
from ..store import Batch
from .ema import Averaging, Module
from .pool import Below
from .settings import DistillationSettings
from .update import Adam, FiniteGuard, Update


class Generated(NamedTuple):
    """A part of a batch of generated images."""

    images: Tensor
    """`[n, C, H, W]`; with the generator's graph while its own gradient is taken"""
    labels: Tensor | None
    """the classes that they were drawn for, int64 `[n]`"""
    measured: Batch | None
    """as many real measurements, if a player asks for them"""


class Loss(NamedTuple):
    """A loss, and 0-dimensional values to log beside it."""

    value: Tensor
    """mean over the images, 0-dimensional"""
    log: Mapping[str, Tensor]


@dataclass
class Iteration:
    """What the players of one iteration share.

    Attributes:
        step: its number.
        random: the source of all random numbers.
        measured: real measurements for each part of the batch, if a player asks for them.
        drawn: the parts of the generator's update, without their graph.
    """

    step: int
    random: torch.Generator
    measured: Sequence[Batch | None]
    drawn: list[Generated] = field(default_factory=list)


class Work(NamedTuple):
    """Arithmetic and memory that a player needs; the cost of an iteration is estimated from them.

    A pass is one of an image through the teacher's network, a copy one of its weights. Other modules are counted by
    `flop`, `parameters` and `activations`.
    """

    forward: float = 0
    """passes forward in one iteration"""
    to_weights: float = 0
    """backward, to the weights"""
    to_input: float = 0
    """backward, to the input alone"""
    graphs: float = 0
    """passes whose activations are held at once while the generator's gradient is taken"""
    networks: float = 0
    """copies"""
    trained: float = 0
    """copies with a gradient"""
    averages: float = 0
    """copies that are averages"""
    flop: float = 0
    """of other modules, for one image of an iteration"""
    parameters: float = 0
    """their weights, all trained"""
    activations: float = 0
    """bytes that they keep for the backward pass of one image"""


@dataclass(frozen=True)
class Game:
    """What all players of a distillation know.

    Attributes:
        teacher: frozen.
        corruption: that of the measurements, through which every generated image goes.
        shape: of an image, `(C, H, W)`.
        objective: the teacher's.
        classes: of a class-conditional teacher, how often each is drawn.
        players: all of them; the generator is the first.
        opponents: the others.
        below: the levels below the noise of the measurements, if the teacher knows them.
    """

    teacher: Denoiser
    corruption: Corruption
    shape: tuple[int, ...]
    settings: DistillationSettings
    objective: Objective
    device: torch.device
    guard: FiniteGuard
    processes: Processes = ALONE
    classes: Classes | None = None
    players: list[Player[Any]] = field(default_factory=list)
    opponents: list[Opponent[Any]] = field(default_factory=list)
    below: Below | None = None

    @property
    def start(self) -> Denoiser:
        """The network from which the generator starts; of a teacher of two, that of the high levels."""
        return self.teacher.high if isinstance(self.teacher, HandedOver) else self.teacher

    @cached_property
    def white(self) -> tuple[int, ...]:
        """Shape of the space where the noise of a measurement is white."""
        return self.corruption.shapes(self.shape).white

    def drawn_anew(self, iteration: Iteration) -> list[Generated]:
        """A batch of new images without a graph."""
        with torch.no_grad():
            return list(self.players[0].parts(iteration))

    @contextmanager
    def trains(self, one: Player[Any]) -> Iterator[None]:
        """Switch off the gradients of the other players' weights while the gradient of `one` is taken."""
        others = [player.module for player in self.players if player is not one]
        for module in others:
            module.requires_grad_(False)
        try:
            yield
        finally:
            for module in others:
                module.requires_grad_(True)


class Player(ABC, Generic[Module]):
    """A module that is trained in phase II.

    Args:
        module: its parameters take gradients.
        adam: how it is updated.
        averages: of its weights, by the name that they have in a state.
        steps: updates in one iteration; 0 for a player that is not trained.
        scale: factor on its loss.

    Attributes:
        kind: names its tensors in a state, and an opponent in recipes and in the log.
        needs_measurements: whether the parts must hold real measurements.
    """

    kind: ClassVar[str]
    needs_measurements: ClassVar[bool] = False

    def __init__(
        self,
        game: Game,
        module: Module,
        adam: Adam,
        *,
        averages: Mapping[str, Averaging[Module]] | None = None,
        steps: int = 1,
        scale: float = 1.0,
    ) -> None:
        self.game, self.module, self.steps, self.scale = game, module, steps, scale
        images, names = game.settings.images, {"name": self.kind, "optimiser_name": f"{self.kind}_optimiser"}
        self.update = Update(module, adam, images, game.guard, game.processes, averages=averages, **names)

    @classmethod
    @abstractmethod
    def work(cls, settings: DistillationSettings) -> Work:
        """What it costs."""

    @abstractmethod
    def parts(self, iteration: Iteration) -> Iterable[Generated]:
        """The parts of the batch that it learns from."""

    @abstractmethod
    def loss(self, part: Generated, iteration: Iteration) -> Loss:
        """What it minimises, on one part of a batch."""

    @final
    def take_gradient(self, iteration: Iteration) -> dict[str, Tensor]:
        """The gradient of a whole batch; no weight changes. Returns what to log: means over the parts, and the norm."""
        guard, rows = self.game.guard, []
        with self.game.trains(self):
            for part in self.parts(iteration):
                loss = self.loss(part, iteration)
                (loss.value * (self.scale / self.game.settings.accumulate)).backward()
                guard.watch(loss.value.detach(), iteration.step)
                rows.append({"loss": loss.value.detach(), **loss.log})
        norm = self.update.measure(iteration.step)
        means = {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}
        return {**means, "grad_norm": norm}


class Opponent(Player[Module], Pluggable, family="opponent", builtin={"fake": f"{__package__}.distillation"}):
    """A player that is fitted to what the generator draws, and judges it; its constructor takes the game alone."""

    @abstractmethod
    def term(self, part: Generated, iteration: Iteration) -> Loss:
        """What it adds to the generator's loss; gradients pass through `part.images`."""

    @final
    def parts(self, iteration: Iteration) -> Iterable[Generated]:
        """The images of the generator's update, or new ones."""
        if iteration.drawn and self.game.settings.share_samples:
            return iteration.drawn
        return self.game.drawn_anew(iteration)
