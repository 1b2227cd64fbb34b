"""Seconds per training iteration, sampling rate and peak memory of one preset, as one line of JSON.

    python bench/step.py --preset small --precision fp32 --threads 2

`--mode naive` is the plain way of doing the same iteration, to compare with side by side: NCHW, new samples for each
update, and graphs through all weights of all three networks.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from restill import AdditiveNoise, AmbientTweedie, Heun, NetworkDenoiser, OneStep, build_network
from restill.core.memory import keep_freed_memory
from restill.core.tensors import right_broadcast, seeded
from restill.objectives import generator_levels
from restill.training import (
    Adam,
    Distillation,
    DistillationSettings,
    TeacherSettings,
    TeacherTraining,
)

SONG = {"model_type": "SongUNet", "embedding_type": "positional", "resample_filter": [1, 1], "channel_mult_noise": 1}
PRESETS: dict[str, dict[str, Any]] = {
    "small": {"size": 32, "batch": 16, "net": {"model_channels": 32, "channel_mult": [1, 2], "num_blocks": 2}},
    "cifar10": {"size": 32, "batch": 16, "net": {"model_channels": 128, "channel_mult": [2, 2, 2], "num_blocks": 4}},
    "ffhq64": {"size": 64, "batch": 8, "net": {"model_channels": 128, "channel_mult": [1, 2, 2, 2], "num_blocks": 4}},
}


class Noise:
    """Stands in for a store's batches: random images that lie on the device already."""

    def __init__(self, shape: tuple[int, ...], batch: int, device: torch.device) -> None:
        from restill.store import Batch

        self.device, self.image_shape = device, shape
        y = torch.randn(batch, *shape, device=device) * 0.5
        self.batch = Batch(y, AdditiveNoise(sigma_n=0.2).draw(batch, shape, torch.Generator(device)), None)

    def at(self, step: int) -> Any:
        return self.batch


def seconds(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of a call, after two that warm up."""
    taken = []
    for i in range(repeats + 2):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if i >= 2:
            taken.append(time.perf_counter() - started)
    return sorted(taken)[len(taken) // 2]


def naive_iteration(training: Distillation) -> None:
    """The same two updates without sharing or freezing anything."""
    corruption, settings, n = training.corruption, training.settings, training.batch_size
    student, fake = training.generator, training.players["fake"]
    game = student.game
    generator = seeded("naive", training.step, device=training.device)
    sigma_init = torch.full((n,), settings.init_sigma, device=training.device)

    def draw() -> torch.Tensor:
        z = torch.randn(n, *game.white, generator=generator, device=training.device)
        return student.module(z * settings.init_sigma, sigma_init)

    operator = corruption.draw(n, game.shape, generator)
    y = corruption.corrupt(draw().detach(), operator, generator)
    drawn = game.objective.draw(operator, game.white, generator)
    game.objective(fake.module, y, operator, operator, drawn).mean().backward()
    fake.update.measure(0)
    fake.update.apply(0, n)
    u = draw()
    sigma = generator_levels(n, settings.tmax, generator)
    x_t = u + right_broadcast(sigma, u) * torch.randn(u.shape, generator=generator, device=training.device)
    training.teacher.requires_grad_(True)
    a, b = training.teacher(x_t, sigma), fake.module(x_t, sigma)
    settings.loss(u, x_t, a, b, sigma).mean().backward()
    student.update.measure(0)
    student.update.apply(training.images_seen, n)
    training.teacher.zero_grad()
    fake.module.zero_grad()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    preset, device = PRESETS[arguments.preset], torch.device(arguments.device)
    batch, size = arguments.batch or preset["batch"], preset["size"]
    shape = (3, size, size)
    torch.manual_seed(0)
    kwargs = {**SONG, **preset["net"], "img_resolution": size, "img_channels": 3, "label_dim": 0, "dropout": 0.13}
    denoiser = NetworkDenoiser(
        build_network("EDMPrecond", {**kwargs, "attn_resolutions": [16], "augment_dim": 9}), 3
    ).to(device)
    if arguments.channels_last and arguments.mode == "shared":
        denoiser.to(memory_format=torch.channels_last)
    denoiser.autocast = torch.bfloat16 if arguments.precision == "bf16" else None
    corruption, adam = AdditiveNoise(sigma_n=0.2), Adam()
    objective = AmbientTweedie()
    teacher = TeacherTraining(
        denoiser,
        Noise(shape, batch, device),
        corruption,
        TeacherSettings(batch_size=batch, adam=adam),
        objective,
        0,
    )
    settings = DistillationSettings(batch_size=batch, generator=adam, fake=adam, snapshots=0)
    student = Distillation(denoiser, corruption, shape, settings, objective, 0, device)
    if arguments.compile:
        trained = [player.module for player in student.players.values()]
        for module in (teacher.denoiser, teacher.ema.module, student.teacher, *trained):
            for part in module.children():
                part.compile(dynamic=False)
    result: dict[str, Any] = {"preset": arguments.preset, "mode": arguments.mode, "precision": arguments.precision}
    result |= {"compile": arguments.compile, "channels_last": arguments.channels_last, "batch": batch}
    result |= {"threads": torch.get_num_threads(), "device": _name(device), "torch": torch.__version__}
    iteration = student.advance if arguments.mode == "shared" else lambda: naive_iteration(student)
    if arguments.profile:
        iteration()
        with torch.profiler.profile() as profile:
            iteration()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=20), file=sys.stderr)
    result["distillation_s"] = seconds(iteration, device, arguments.repeats)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    iteration()
    result["page_faults"] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    result["distillation_images_per_s"] = batch / result["distillation_s"]
    result["teacher_s"] = seconds(teacher.advance, device, arguments.repeats)
    result["teacher_images_per_s"] = batch / result["teacher_s"]
    frozen, n = teacher.ema.module, arguments.sampling_batch
    latents = torch.randn(n, *shape, device=device)
    with torch.no_grad():
        one = seconds(lambda: OneStep()(frozen, latents), device, arguments.repeats)
        result["one_step_images_per_s"] = n / one
        if not arguments.no_heun:
            heun = seconds(lambda: Heun(num_steps=18)(frozen, latents), device, max(1, arguments.repeats // 5))
            result["heun_18_images_per_s"] = n / heun
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident()
    result["peak_memory_gb"] = peak / 2**30
    return result


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--mode", choices=["shared", "naive"], default="shared")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice by default")
    parser.add_argument("--batch", type=int, help="images per iteration; the preset's by default")
    parser.add_argument("--sampling-batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--keep-memory", action=argparse.BooleanOptionalAction, default=True, help="as runs do")
    parser.add_argument("--no-heun", action="store_true", help="leave out the slow sampler")
    parser.add_argument("--profile", action="store_true", help="also show the operations of one distillation iteration")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.keep_memory:
        keep_freed_memory()
    result = measure(arguments)
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}))


if __name__ == "__main__":
    main()
