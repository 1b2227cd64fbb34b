"""Memory and arithmetic of the two phases, counted by sending tensors without data through the network.

Memory for the backward pass is what autograd saves, storage by storage. It is linear in the number of images, so
batches of 2 and of 4 tell it for any. Weights, gradients, Adam's moments and averages are copies of the parameters, in
float32 whatever the precision. What is not counted: the workspace of single operations, passes without a graph while
others are held (DMD, SDS: a fifth more), what the libraries of a device take, and memory that its allocator cannot use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ..diffusion import NetworkDenoiser
from ..diffusion.networks import build_network
from .distillation import Generator, opponents_of
from .players import Player, Work
from .settings import DistillationSettings, PhaseSettings, TeacherSettings

PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}
_FLOAT = 4  # bytes
_FEW, _MORE = 2, 4  # images; of a single one autograd saves other things in some operations


class Saved(NamedTuple):
    """Bytes that a forward pass keeps for the backward pass: a fixed part, e.g. weights in bf16, and of each image."""

    fixed: float
    per_image: float

    def __call__(self, images: float) -> float:
        """Bytes for a batch."""
        return self.fixed + images * self.per_image


@dataclass(frozen=True)
class NetworkCost:
    """What one network takes.

    Attributes:
        parameters: number of weights.
        forward: FLOP of one image (a product and its sum are two), forward.
        backward_weights: the same backward, to the weights.
        backward_input: to the input alone, through a frozen network.
        saved: in each of `PRECISIONS`, with dropout, as a teacher is trained, and without, as all networks of phase II.
    """

    parameters: int
    forward: float
    backward_weights: float
    backward_input: float
    saved: Mapping[str, tuple[Saved, Saved]]


@dataclass(frozen=True)
class PhaseCost:
    """What one phase takes.

    Attributes:
        images: presented in all.
        batch: images of an iteration.
        at_once: images of it whose activations are in memory together.
        flop: of one image of an iteration.
        weights: how many numbers in float32 there are for weights, averages, gradients and moments.
        activations: bytes as a function of the number of images, in each precision.
    """

    images: int
    batch: int
    at_once: int
    flop: float
    weights: Mapping[str, int]
    activations: Mapping[str, Saved]

    def held(self, name: str) -> int:
        """Bytes of the weights, averages, gradients or moments."""
        return _FLOAT * self.weights[name]

    @property
    def fixed(self) -> int:
        """Bytes of all of these."""
        return sum(map(self.held, self.weights))

    def memory(self, precision: str) -> float:
        """Bytes in all."""
        return self.fixed + self.activations[precision](self.at_once)

    def most_at_once(self, precision: str, capacity: float) -> int:
        """How many images at once fit into `capacity` bytes; 0 where none does."""
        saved = self.activations[precision]
        return max(0, int((capacity - self.fixed - saved.fixed) // saved.per_image))


def network_cost(cls: str, kwargs: Mapping[str, Any], shape: tuple[int, ...]) -> NetworkCost:
    """Count a network.

    Args:
        cls, kwargs: of `build_network`.
        shape: of one input, `(C, H, W)`, the channels of conditions included.

    Raises:
        UserError: such a network cannot be built.
    """
    with FakeTensorMode():
        network = NetworkDenoiser(build_network(cls, kwargs), shape[0])
        parameters = sum(p.numel() for p in network.parameters())
        saved = {
            name: (_saved(network.train(), shape, dtype), _saved(network.eval(), shape, dtype))
            for name, dtype in PRECISIONS.items()
        }
        network.autocast = None
        forward, backward_weights = _flop(network, shape)
        _, backward_input = _flop(network.requires_grad_(False), shape)
    return NetworkCost(parameters, forward, backward_weights, backward_input, saved)


def teacher_cost(network: NetworkCost, settings: TeacherSettings) -> PhaseCost:
    """Phase I: one network, its average, and with consistency further graphs of the same network."""
    ends, steps = settings.consistency.ends, settings.consistency.steps
    graphs, paths = (2 + ends, ends * steps) if settings.consistency.weight else (1, 0)
    work = Work(forward=graphs + paths, to_weights=graphs, graphs=graphs, networks=1, trained=1, averages=1)
    return _cost(network, settings, work, dropout=True)


def student_cost(network: NetworkCost, settings: DistillationSettings) -> PhaseCost:
    """Phase II: the frozen teacher, and what each player says that it takes.

    The loss decides what is held at once: the graphs of all three networks where it is differentiated through the
    scores, else that of the generator alone.
    """
    players: list[type[Player[Any]]] = [Generator, *opponents_of(settings)]
    works = [Work(networks=1), *(player.work(settings) for player in players)]
    work = Work(*(sum(column) for column in zip(*works, strict=True)))
    return _cost(network, settings, work, dropout=False)


def _cost(network: NetworkCost, settings: PhaseSettings, work: Work, *, dropout: bool) -> PhaseCost:
    own, trained = network.parameters, int(work.trained * network.parameters + work.parameters)
    saved = {name: pair[not dropout] for name, pair in network.saved.items()}
    flop = work.forward * network.forward + work.to_weights * network.backward_weights
    return PhaseCost(
        settings.images,
        settings.batch_size,
        settings.batch_size // settings.accumulate,
        flop + work.to_input * network.backward_input + work.flop,
        {
            "weights": int(work.networks * own + work.parameters),
            "averages": int(work.averages * own),
            "gradients": trained,
            "Adam's moments": 2 * trained,
        },
        {
            name: Saved(work.graphs * each.fixed, work.graphs * each.per_image + work.activations)
            for name, each in saved.items()
        },
    )


def _saved(network: NetworkDenoiser, shape: tuple[int, ...], dtype: torch.dtype | None) -> Saved:
    network.autocast = dtype
    few, more = (saved_bytes(network, n, shape) for n in (_FEW, _MORE))
    per_image = (more - few) / (_MORE - _FEW)
    return Saved(few - _FEW * per_image, per_image)


def saved_bytes(network: NetworkDenoiser, images: int, shape: tuple[int, ...]) -> int:
    """Bytes that autograd saves in a forward pass of zeros, beside the network's own; a storage counts once."""
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no other one takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(torch.zeros(images, *shape), torch.ones(images))
    del out
    return sum(storage.nbytes() for key, storage in kept.items() if key not in own)


def _flop(network: NetworkDenoiser, shape: tuple[int, ...]) -> tuple[float, float]:
    """FLOP of one image, forward and backward: to the weights, or to the input where these take no gradient."""
    frozen = not next(network.parameters()).requires_grad
    x = torch.zeros(_FEW, *shape, requires_grad=frozen)
    with FlopCounterMode(display=False) as forward:
        total = network(x, torch.ones(_FEW)).sum()
    with FlopCounterMode(display=False) as backward:
        total.backward()
    return forward.get_total_flops() / _FEW, backward.get_total_flops() / _FEW
