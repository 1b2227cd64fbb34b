r"""Why the student is better than its teacher, in the one case that can be solved exactly.

Data of rank `r` in `d` dimensions, :math:`x \sim N(0, E E^T)` with :math:`E^T E = I_r`, are measured with noise,
:math:`y = x + \sigma_n \epsilon`. The teacher knows the score of the measurements and no more:

.. math:: T_s(x) = -(E E^T + (\sigma_n^2 + s^2) I)^{-1} x

The student is a linear generator :math:`G(z) = W z` of rank `r`, so :math:`x_g \sim N(0, V)` with :math:`V = W W^T`. It
minimises the Fisher divergence to the teacher under its own law, integrated over the noise levels `s`,

.. math:: \int w(s)\, E_{x \sim N(0, S_s)} |F_s(x) - T_s(x)|^2 ds, \qquad F_s(x) = -S_s^{-1} x

where `F_s` is the exact fake score. There are two ways to fit the fake score:

- **matched**, to the student's *re-corrupted* samples: :math:`S_s = V + (\sigma_n^2 + s^2) I`. The divergence is zero
  if and only if :math:`V = E E^T`: the clean law, although nobody has seen it (RSD).
- **mismatched**, to the student's samples as they are: :math:`S_s = V + s^2 I`. A law of full rank would reproduce the
  measurements, noise included. Rank `r` cannot: outside its subspace the divergence is a constant, among the subspaces
  that of `E` is best, and inside it :math:`1/(v + s^2) = 1/(1 + \sigma_n^2 + s^2)` gives
  :math:`V = (1 + \sigma_n^2) E E^T` (DSD). The subspace is exact, only the scale is not.

The distances to the clean law are :math:`W_2^2 = 0` and :math:`r (\sqrt{1 + \sigma_n^2} - 1)^2`; that of the
measurements, and so of a teacher sampled to the end, is the latter plus :math:`(d - r) \sigma_n^2`. The same score,
shifted to :math:`s > \sigma_n`, is that of the clean data (Ambient Tweedie). A sampler that stops there returns means
:math:`E[x | x_s]`, which vary too little: :math:`E E^T / (1 + \sigma_n^2)`.

Run `python examples/linear_theorem.py`; it takes a few seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from restill.diffusion import GaussianDenoiser
from restill.sampling import heun

matplotlib.use("Agg")
import matplotlib.pyplot as plt

F64 = torch.float64
LEVELS = torch.logspace(-1, 1, 9, dtype=F64)


@dataclass(frozen=True)
class Law:
    """A covariance `[d, d]` and what it is called."""

    name: str
    cov: Tensor


def subspace(dim: int, rank: int, seed: int) -> Tensor:
    """`E`, orthonormal columns `[d, r]`."""
    random = torch.randn(dim, rank, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return torch.linalg.qr(random)[0]


def fisher_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """`sum over s of s^2 E|F_s - T_s|^2`, x ~ N(0, student + s^2), from the two laws' denoisers.

    A score is `(D - x)/s^2`, so the difference of scores is that of denoisers over `s^2`. The expectation of a
    quadratic form over N(0, L L^T) is its sum over the columns of `L`.
    """
    eye = torch.eye(len(student), dtype=student.dtype)
    total = student.new_zeros(())
    for s in LEVELS:
        columns = torch.linalg.cholesky(student + s**2 * eye).T
        gap = GaussianDenoiser(student)(columns, s) - GaussianDenoiser(teacher)(columns, s)
        total = total + gap.square().sum() / s**2
    return total


def distil(teacher: Tensor, rank: int, corruption: float, seed: int) -> Tensor:
    """The covariance of the best student of rank `rank`, from a random start.

    Args:
        teacher: covariance of the law whose score the teacher knows, `[d, d]`.
        corruption: standard deviation of the noise added to the student's samples before the fake score is fitted.
    """
    dim = len(teacher)
    factor = torch.randn(dim, rank, generator=torch.Generator().manual_seed(seed), dtype=F64).requires_grad_()
    noise = corruption**2 * torch.eye(dim, dtype=F64)
    optimiser = torch.optim.LBFGS(
        [factor], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = fisher_divergence(factor @ factor.T + noise, teacher)
        loss.backward()
        return loss

    optimiser.step(closure)
    return (factor @ factor.T).detach()


def sampled(data: Tensor, stop_at: float) -> Tensor:
    """Covariance of the images that the Heun sampler draws with the optimal denoiser of N(0, data)."""
    linear_map = heun(GaussianDenoiser(data), torch.eye(len(data), dtype=F64), 2000, stop_at=stop_at)
    return linear_map.T @ linear_map


def w2_squared(first: Tensor, second: Tensor) -> float:
    """Squared Wasserstein distance of N(0, first) and N(0, second)."""
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float(first.trace() + second.trace() - 2 * cross)


def solve(dim: int, rank: int, sigma_n: float, seed: int = 0) -> tuple[Tensor, list[Law]]:
    """The clean covariance, and the laws to compare with it."""
    basis = subspace(dim, rank, seed)
    clean = basis @ basis.T
    noisy = clean + sigma_n**2 * torch.eye(dim, dtype=F64)
    return clean, [
        Law("measurements", noisy),
        Law("teacher, sampled to the end", sampled(noisy, stop_at=0.0)),
        Law("teacher, truncated", sampled(clean, stop_at=sigma_n)),
        Law("student, mismatched", distil(noisy, rank, corruption=0.0, seed=seed + 1)),
        Law("student, matched", distil(noisy, rank, corruption=sigma_n, seed=seed + 1)),
    ]


def predictions(dim: int, rank: int, sigma_n: float) -> dict[str, float]:
    """The theorem's distances to the clean law."""
    scale = rank * ((1 + sigma_n**2) ** 0.5 - 1) ** 2
    noise = (dim - rank) * sigma_n**2
    return {
        "measurements": scale + noise,
        "teacher, sampled to the end": scale + noise,
        "teacher, truncated": rank * (1 - (1 + sigma_n**2) ** -0.5) ** 2,
        "student, mismatched": scale,
        "student, matched": 0.0,
    }


def eigenvalues(cov: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(cov).flip(0)


def table(clean: Tensor, laws: list[Law], predicted: dict[str, float]) -> str:
    lines = [f"{'':31}{'eigenvalues of the covariance':{8 * len(clean)}}   W2^2 to clean (predicted)"]
    for law in [Law("clean (never seen)", clean), *laws]:
        values = "".join(f"{abs(v):8.4f}" for v in eigenvalues(law.cov).tolist())
        theory = f"({predicted[law.name]:.6f})" if law.name in predicted else ""
        lines.append(f"{law.name:31}{values}   {abs(w2_squared(law.cov, clean)):.6f} {theory}".rstrip())
    return "\n".join(lines)


def plot(clean: Tensor, laws: list[Law], sigma_n: float, path: Path) -> None:
    """Eigenvalues side by side, in one panel: inside the data's subspace and outside it."""
    dim, rank = len(clean), round(float(clean.trace()))
    colours = ["#9a9a9a", "#d9a441", "#8c6bb1", "#c8553d", "#2a7f9e"]
    figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
    width = 0.8 / len(laws)
    for i, (law, colour) in enumerate(zip(laws, colours, strict=True)):
        position = torch.arange(1, dim + 1) + (i - (len(laws) - 1) / 2) * width
        label = f"{law.name}: $W_2^2$ = {abs(w2_squared(law.cov, clean)):.4f}"
        axes.bar(position.numpy(), eigenvalues(law.cov).clamp_min(0).numpy(), width, color=colour, label=label)
    for level, name in (
        (1 + sigma_n**2, r"$1 + \sigma_n^2$"),
        (1.0, "clean: 1"),
        (sigma_n**2, r"$\sigma_n^2$"),
    ):
        axes.axhline(level, color="black", linewidth=0.8, linestyle=":", zorder=0)
        axes.annotate(name, (dim + 0.55, level), va="center", fontsize=10, annotation_clip=False)
    axes.axvline(rank + 0.5, color="black", linewidth=0.8)
    axes.set(
        xlim=(0.5, dim + 0.5),
        xticks=range(1, dim + 1),
        xlabel=f"eigenvalue (the data have rank {rank}; the clean ones are 0 right of the line)",
        ylabel="variance",
        title=rf"Linear data, $\sigma_n$ = {sigma_n:g}: what each law keeps of the signal and of the noise",
    )
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(loc="center right", title="distance to the clean law", framealpha=1, edgecolor="none")
    legend.set_bbox_to_anchor((1.0, 0.5), transform=axes.transAxes)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="The linear theorem of score distillation from noisy data.")
    parser.add_argument("--out", type=Path, default=Path("linear_theorem.png"), help="figure to write")
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--sigma-n", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    clean, laws = solve(options.dim, options.rank, options.sigma_n, options.seed)
    print(table(clean, laws, predictions(options.dim, options.rank, options.sigma_n)))
    plot(clean, laws, options.sigma_n, options.out)
    print(f"figure: {options.out}")


if __name__ == "__main__":
    main()
