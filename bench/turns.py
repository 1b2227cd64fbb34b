"""What each measure gives to a distillation iteration: variants take turns, so that a busy machine slows all alike.

python bench/turns.py --preset small --threads 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from restill import AdditiveNoise, AmbientTweedie, Distillation, DistillationSettings, NetworkDenoiser, build_network
from restill.core.memory import keep_freed_memory
from step import PRESETS, SONG, naive_iteration


def distillation(preset: str, share: bool, bf16: bool = False) -> Distillation:
    """A distillation of random weights."""
    size, batch = PRESETS[preset]["size"], PRESETS[preset]["batch"]
    kwargs = {**SONG, **PRESETS[preset]["net"], "img_resolution": size, "img_channels": 3, "label_dim": 0}
    denoiser = NetworkDenoiser(build_network("EDMPrecond", {**kwargs, "dropout": 0.13, "attn_resolutions": [16]}), 3)
    denoiser.autocast = torch.bfloat16 if bf16 else None
    settings = DistillationSettings(batch_size=batch, share_samples=share, snapshots=0)
    corruption, cpu = AdditiveNoise(sigma_n=0.2), torch.device("cpu")
    return Distillation(denoiser, corruption, (3, size, size), settings, AmbientTweedie(), 0, cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    batch, plain = PRESETS[arguments.preset]["batch"], distillation(arguments.preset, share=False)
    variants: dict[str, Callable[[], object]] = {
        "naive": lambda: naive_iteration(plain),
        "frozen weights, new samples": distillation(arguments.preset, share=False).advance,
        "frozen weights, shared samples": distillation(arguments.preset, share=True).advance,
        "the same in bf16": distillation(arguments.preset, share=True, bf16=True).advance,
    }
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(arguments.turns + 1):  # the first turn warms up
        for name, iteration in variants.items():
            started = time.perf_counter()
            iteration()
            taken[name].append(time.perf_counter() - started)
    for name, times in taken.items():
        counted = sorted(times[1:])
        median = counted[len(counted) // 2]
        print(f"{name:32} min {counted[0]:.3f} s  median {median:.3f} s  {batch / median:6.1f} images/s")


if __name__ == "__main__":
    main()
