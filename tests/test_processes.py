"""Processes that share work: shares, sums and means over real processes, and the one place where gradients meet."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from restill.core.processes import ALONE, Processes
from restill.training import Adam, FiniteGuard
from restill.training.update import Update

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize(("n", "multiple"), [(0, 1), (5, 1), (7, 4), (1000, 256)])
def test_shares_are_the_whole_without_overlap(count: int, n: int, multiple: int) -> None:
    shares = [Processes(rank, count).share(n, multiple) for rank in range(count)]
    assert list(itertools.chain(*shares)) == list(range(n))
    assert all(share.start % multiple == 0 for share in shares if len(share))


def test_one_process_keeps_what_it_has() -> None:
    tensors = [torch.arange(3.0), torch.ones(2, 2)]
    ALONE.average_(tensors)
    assert torch.equal(tensors[0], torch.arange(3.0)) and ALONE.first and ALONE.sum([1.0, 2.0]) == [1.0, 2.0]


TWO = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from pathlib import Path
from restill.core.processes import joined
from test_processes import half_of_a_batch
with joined() as processes:
    tensors = [torch.full((2, 3), float(processes.rank)), torch.tensor(4.0 * processes.rank)]
    processes.average_(tensors)
    assert torch.equal(tensors[0], torch.full((2, 3), 0.5)) and float(tensors[1]) == 2.0
    assert processes.sum([processes.rank + 1.0]) == [3.0] and processes.largest(float(processes.rank)) == 1.0
    parts = processes.gathered(torch.arange(processes.rank + 1))
    assert [part.tolist() for part in parts] == [[0], [0, 1]]
    weights, norm = half_of_a_batch(processes)
    torch.save((weights, norm), Path(sys.argv[2]) / f"{processes.rank}.pt")
    processes.wait()
"""


def half_of_a_batch(processes: Processes) -> tuple[Tensor, Tensor]:
    """A module after one update by the mean loss over this process's share of a batch of 8, and the gradient's norm."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 5, generator=generator), torch.randn(8, 1, generator=generator)
    torch.manual_seed(1)
    module = nn.Linear(5, 1)
    update = Update(module, Adam(lr=0.1, beta1=0.0), 8, FiniteGuard(CPU), processes)
    share = slice(processes.share(8).start, processes.share(8).stop)
    (module(x[share]) - y[share]).square().mean().backward()
    norm = update.measure(0)
    update.apply(0, 8)
    return torch.cat([update.moments()[f"exp_avg.{name}"].flatten() for name in ("weight", "bias")]), norm


def test_two_processes_with_half_a_batch_each_take_the_whole_batchs_gradient(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29507"]
    script = tmp_path / "two.py"
    script.write_text(TWO)
    done = subprocess.run([*command, str(script), str(Path(__file__).parent), str(tmp_path)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    whole, norm = half_of_a_batch(ALONE)
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.equal(halves[0][0], halves[1][0]) and norm > 0.1
    for gradient, found in halves:
        torch.testing.assert_close(gradient, whole, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found, norm, rtol=1e-5, atol=1e-6)
