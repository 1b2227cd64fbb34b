"""What the two phases take: counts without training, against real trainings of small networks and published figures."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from restill.corruption import AdditiveNoise
from restill.diffusion import NetworkDenoiser
from restill.diffusion.networks import build_network
from restill.objectives import DMD, SDS, AmbientTweedie, Consistency
from restill.store import Batch
from restill.training import Distillation, DistillationSettings, TeacherSettings, TeacherTraining, Training
from restill.training.cost import (
    PRECISIONS,
    NetworkCost,
    PhaseCost,
    network_cost,
    saved_bytes,
    student_cost,
    teacher_cost,
)

SHAPE, CPU, LAW = (3, 32, 32), torch.device("cpu"), AdditiveNoise(sigma_n=0.2)
SMALL: dict[str, Any] = {
    "model_type": "SongUNet",
    "img_resolution": 32,
    "img_channels": 3,
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [16],
    "dropout": 0.1,
    "augment_dim": 9,
}
FULL: dict[str, Any] = {
    "resample_filter": [1, 1], "model_channels": 128, "num_blocks": 4, "attn_resolutions": [16], "dropout": 0.13
}  # fmt: skip


@pytest.fixture(scope="module")
def cost() -> NetworkCost:
    return network_cost("EDMPrecond", SMALL, SHAPE)


def denoiser(precision: str = "fp32") -> NetworkDenoiser:
    torch.manual_seed(0)
    network = NetworkDenoiser(build_network("EDMPrecond", SMALL), 3)
    network.autocast = PRECISIONS[precision]
    return network


class Noise:
    """Stands in for a store's batches."""

    device, image_shape = CPU, SHAPE

    def __init__(self, n: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batch = Batch(torch.randn(n, *SHAPE, generator=generator), LAW.draw(n, SHAPE, generator), None)

    def at(self, step: int) -> Batch:
        return self.batch


def teacher(n: int, precision: str = "fp32", **options: Any) -> tuple[Training, TeacherSettings]:
    chosen = TeacherSettings(batch_size=n, **options)
    return TeacherTraining(denoiser(precision), Noise(n), LAW, chosen, AmbientTweedie(), 0), chosen  # type: ignore[arg-type]


def student(n: int, precision: str = "fp32", **options: Any) -> tuple[Distillation, DistillationSettings]:
    chosen = DistillationSettings(**{"batch_size": n, "snapshots": 0, **options})
    return Distillation(denoiser(precision), LAW, SHAPE, chosen, AmbientTweedie(), 0, CPU), chosen


VARIANTS: dict[str, Callable[..., tuple[Training, Any]]] = {
    "teacher": teacher,
    "accumulated": lambda n, p="fp32": teacher(n, p, accumulate=2),
    "consistent": lambda n, p="fp32": teacher(n, p, consistency=Consistency(weight=1.0, ends=3, steps=2)),
    "sid": student,
    "dmd": lambda n, p="fp32": student(n, p, loss=DMD()),
    "sds": lambda n, p="fp32": student(n, p, loss=SDS()),
    "unshared": lambda n, p="fp32": student(n, p, share_samples=False),
    "sid in parts": lambda n, p="fp32": student(n, p, accumulate=2),
    "three fits": lambda n, p="fp32": student(n, p, fake_steps=3),
}


def phase_of(cost: NetworkCost, chosen: TeacherSettings | DistillationSettings) -> PhaseCost:
    return teacher_cost(cost, chosen) if isinstance(chosen, TeacherSettings) else student_cost(cost, chosen)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dropout", [True, False])
def test_activations_are_counted_as_a_real_pass_saves_them(cost: NetworkCost, precision: str, dropout: bool) -> None:
    real = saved_bytes(denoiser(precision).train(dropout), 8, SHAPE)
    with_dropout, without = cost.saved[precision]
    assert (with_dropout if dropout else without)(8) == pytest.approx(real, rel=0.005)
    assert cost.parameters == sum(p.numel() for p in denoiser().parameters())


class Live(TorchDispatchMode):
    """Sees every tensor that is made, and keeps the most bytes that were alive at once; a storage counts once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.held = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage._cdata not in self.alive:
                self.alive[storage._cdata] = storage.nbytes()
                self.held += storage.nbytes()
                self.most = max(self.most, self.held)
                weakref.finalize(storage, self.release, storage._cdata)
        return out

    def release(self, key: int) -> None:
        self.held -= self.alive.pop(key, 0)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", VARIANTS)
def test_the_most_that_an_iteration_holds(cost: NetworkCost, name: str, precision: str) -> None:
    """All tensors alive at once beside those that were there before: activations, gradients, what operations need.

    Where the loss is not differentiated through the scores, these run without a graph while the generator's is held,
    and what they need meanwhile is not counted: a fifth of the whole here.
    """
    training, chosen = VARIANTS[name](16, precision)
    training.advance()
    with Live() as live:
        training.advance()
    phase = phase_of(cost, chosen)
    counted = phase.activations[precision](phase.at_once) + phase.held("gradients")
    assert counted == pytest.approx(live.most, rel=0.25 if name in ("dmd", "sds") else 0.06)


@pytest.mark.parametrize("name", VARIANTS)
def test_arithmetic_of_an_iteration(cost: NetworkCost, name: str) -> None:
    training, chosen = VARIANTS[name](4)
    with FlopCounterMode(display=False) as counter:
        training.advance()
    assert phase_of(cost, chosen).flop == pytest.approx(counter.get_total_flops() / 4, rel=0.002)


@pytest.mark.parametrize("name", ["teacher", "sid", "sds"])
def test_copies_of_the_weights(cost: NetworkCost, name: str) -> None:
    training, chosen = VARIANTS[name](2) if name != "sid" else student(2, snapshots=2)
    training.advance()
    if isinstance(training, Distillation):
        players = training.players.values()
        modules = [training.teacher, *(p.module for p in players)]
    else:
        assert isinstance(training, TeacherTraining)
        modules = [training.denoiser]
    averages = [average for update in training.updates for average in update.averages.values()]
    found = {
        "weights": sum(p.numel() for module in modules for p in module.parameters()),
        "averages": sum(p.numel() for average in averages for p in average.module.parameters()),
        "Adam's moments": sum(
            v.numel() for u in training.updates for s in u.optimiser.state.values() for k, v in s.items() if k != "step"
        ),
    }
    phase = phase_of(cost, chosen)
    assert found == {key: phase.weights[key] for key in found}
    assert phase.weights["gradients"] == phase.weights["Adam's moments"] / 2


RESIDENT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from test_cost import VARIANTS
torch.set_num_threads(1)
def kib(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1])
VARIANTS[sys.argv[2]](2, sys.argv[3])[0].advance()
before = kib("VmRSS")
training, _ = VARIANTS[sys.argv[2]](96, sys.argv[3])
training.advance()
print((kib("VmHWM") - before) * 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the resident memory in /proc")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["teacher", "sid"])
def test_memory_of_a_process(cost: NetworkCost, name: str, precision: str) -> None:
    command = [sys.executable, "-c", RESIDENT, str(Path(__file__).parent), name, precision]
    real = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    _, chosen = VARIANTS[name](96)
    assert phase_of(cost, chosen).memory(precision) == pytest.approx(real, rel=0.25)


@pytest.mark.parametrize(
    ("resolution", "mult", "published"), [(32, [2, 2, 2], 467e9), (64, [1, 2, 2, 2], 922e9)]
)  # fmt: skip
def test_arithmetic_of_the_papers_networks(resolution: int, mult: list[int], published: float) -> None:
    """Per image of a distillation iteration that shares no samples, as the papers' does: within 2%."""
    network = network_cost(
        "EDMPrecond", SMALL | FULL | {"img_resolution": resolution, "channel_mult": mult}, (3, resolution, resolution)
    )
    assert student_cost(network, DistillationSettings(share_samples=False)).flop == pytest.approx(published, rel=0.02)
    shared = student_cost(network, DistillationSettings()).flop
    assert shared == pytest.approx(10 * network.forward, rel=0.005)  # of eleven passes forward or back, one less


def test_how_many_images_fit(cost: NetworkCost) -> None:
    phase = student_cost(cost, DistillationSettings(batch_size=32))
    n = phase.most_at_once("fp32", 2**30)
    fits = [phase.fixed + phase.activations["fp32"](k) <= 2**30 for k in (n, n + 1)]
    assert n > 32 and fits == [True, False]
    assert phase.most_at_once("fp32", phase.fixed) == 0
