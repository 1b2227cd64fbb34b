"""Seconds per forward, and per forward and backward, of one network in each precision, side by side in one process.

    python bench/networks.py --preset small --modes fp32 bf16-autocast bf16-weights --compile no yes

All variants take turns, so that a busy machine slows all of them alike; the minimum and the median of the turns are
printed as one JSON line each. Training mode (dropout) for forward and backward, evaluation mode for the forward.
`--factory module:function` (repeatable) compares other implementations with the same call as `build_network`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

SONG = {"model_type": "SongUNet", "img_channels": 3}
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": SONG | {"img_resolution": 8, "model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "dropout": 0.1},
    "small": SONG
    | {
        "img_resolution": 32,
        "model_channels": 32,
        "channel_mult": [1, 2],
        "num_blocks": 2,
        "attn_resolutions": [16],
        "dropout": 0.13,
    },
    "cifar10": SONG | {"img_resolution": 32, "model_channels": 128, "channel_mult": [2, 2, 2], "dropout": 0.13},
}
MODES = ("fp32", "fp32-channels_last", "bf16-autocast", "bf16-autocast-channels_last", "bf16-weights")


def variant(
    factory: str, kwargs: dict[str, Any], mode: str, backward: bool, compiled: bool, batch: int, device: str
) -> Callable[[], None]:
    """One call of the network in this variant, as a function without arguments that returns when it is done."""
    module, name = factory.split(":")
    torch.manual_seed(0)
    net: nn.Module = getattr(importlib.import_module(module), name)("EDMPrecond", kwargs).to(device)
    net.train(backward).requires_grad_(backward)
    memory = torch.channels_last if "channels_last" in mode else torch.contiguous_format
    net = net.to(memory_format=memory)
    if mode == "bf16-weights":
        net.model.to(torch.bfloat16)
    call = torch.compile(net) if compiled else net
    x = torch.randn(batch, kwargs["img_channels"], kwargs["img_resolution"], kwargs["img_resolution"], device=device)
    x = x.contiguous(memory_format=memory)
    sigma = torch.rand(batch, device=device) + 0.1
    autocast = torch.autocast(device, dtype=torch.bfloat16) if "autocast" in mode else contextlib.nullcontext()

    def run() -> None:
        with autocast, torch.set_grad_enabled(backward):
            out = call(x, sigma)
        if backward:
            net.zero_grad(set_to_none=True)
            out.square().mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--compile", nargs="+", choices=["no", "yes"], default=["no"])
    parser.add_argument("--passes", nargs="+", choices=["forward", "backward"], default=["forward", "backward"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--factory", action="append", help="default: restill.diffusion.networks:build_network")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    factories = args.factory or ["restill.diffusion.networks:build_network"]
    rows: list[tuple[dict[str, Any], Callable[[], None], list[float]]] = []
    for passes, compiled, mode, factory in itertools.product(args.passes, args.compile, args.modes, factories):
        if passes == "backward" and mode == "bf16-weights":
            continue  # weights in bf16 are for inference
        run = variant(
            factory, PRESETS[args.preset], mode, passes == "backward", compiled == "yes", args.batch, args.device
        )
        warm_up = timed(run)  # includes the compilation
        timed(run)
        label = {"factory": factory, "passes": passes, "mode": mode, "compiled": compiled, "first_call_s": warm_up}
        rows.append((label, run, []))
    for _ in range(args.repeats):
        for _, run, seconds in rows:
            seconds.append(timed(run))
    for label, _, seconds in rows:
        shown = {"min_ms": min(seconds) * 1e3, "median_ms": statistics.median(seconds) * 1e3}
        setting = {"preset": args.preset, "batch": args.batch, "threads": args.threads, "torch": torch.__version__}
        print(json.dumps(label | {k: round(v, 2) for k, v in shown.items()} | setting), flush=True)


if __name__ == "__main__":
    main()
