"""How well the teacher of a run denoises its measurements of k-space, by level, and what preconditioning gives alone.

    OMP_NUM_THREADS=1 python bench/denoising.py runs/brains

PSNR in dB of magnitudes against the clean images, of `D` at the measurements with noise of each level added in k-space:
of the teacher, and of networks whose output is 0, with the spectrum of the measurements, and with white images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from restill.core.views import displayed
from restill.diffusion import Prior
from restill.metrics import psnr
from restill.runs.folder import open_run
from restill.runs.subjects import trained
from restill.store import open_store
from restill.store.reference import open_reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.02, 0.1, 0.3, 1.0])
    parser.add_argument("--samples", type=int, default=400)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    store, clean = open_store(run.store), open_reference(run.reference)
    index = torch.linspace(0, len(store) - 1, min(arguments.samples, len(store))).long()
    batch, x = store.batch(index), displayed(clean.images(index), True)
    denoiser = trained(run, "teacher-full").denoiser
    given = batch.operator.to_domain(batch.y)
    noise = torch.randn(batch.operator.embed(given).shape, generator=torch.Generator().manual_seed(0))

    def row(name: str) -> None:
        found = []
        for level in arguments.levels:
            sigma = torch.full((len(index),), level)
            with torch.no_grad():
                image = denoiser(given + batch.operator.noise(level * noise), sigma, batch.operator)
            found.append(f"{psnr(displayed(image.float(), True), x).value:.2f}")
        print(f"| {name} | {' | '.join(found)} |", flush=True)

    print(f"| s | {' | '.join(f'{level:g}' for level in arguments.levels)} |")
    print("|---|" + "---:|" * len(arguments.levels))
    row("teacher")
    denoiser.net.model.register_forward_hook(lambda module, given, out: torch.zeros_like(out))  # type: ignore[operator, union-attr]
    row("its spectrum alone")
    denoiser.power = Prior.white(denoiser.sigma_data).variance.float()
    row("white images alone")


if __name__ == "__main__":
    main()
