"""Seconds and peak memory of measuring one set of images against another, streamed, as one line of JSON.

    python bench/evaluation.py --images 50000 --size 32 --metrics frechet --threads 2

Images are random (metrics do not care); features are pixels and those of a classifier.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from restill.core.tensors import seeded
from restill.metrics import Features, FeatureSet, PixelFeatures, measure, train_classifier
from restill.metrics.measure import SET_METRICS

_BATCH = 1000


def batches(name: str, n: int, size: int) -> Iterator[Tensor]:
    """`n` random colour images with a common brightness each, batch by batch."""
    for k in range(0, n, _BATCH):
        generator = seeded(name, k)
        images = torch.randn(min(_BATCH, n - k), 3, size, size, generator=generator)
        yield (0.3 * images + 0.3 * torch.randn(len(images), 1, 1, 1, generator=generator)).clamp(-1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--metrics", nargs="+", choices=SET_METRICS, default=["frechet"])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    few = next(batches("classifier", _BATCH, arguments.size))
    classifier = train_classifier(few, torch.arange(len(few)) % 10, steps=5)
    spaces: list[Features] = [PixelFeatures((3, arguments.size, arguments.size)), classifier]
    result: dict[str, object] = {"images": arguments.images, "size": arguments.size, "threads": arguments.threads}
    started = time.perf_counter()
    sets = {}
    for name in ("reference", "generated"):
        sets[name] = [FeatureSet(space.dim) for space in spaces]
        for images in batches(name, arguments.images, arguments.size):
            for known, space in zip(sets[name], spaces, strict=True):
                known.update(space(images))
    result["features_s"] = round(time.perf_counter() - started, 1)
    for space, ours, theirs in zip(spaces, sets["generated"], sets["reference"], strict=True):
        for metric in arguments.metrics:
            before = time.perf_counter()
            measure(ours, theirs, space, [metric])
            result[f"{metric}, {space.name}, s"] = round(time.perf_counter() - before, 1)
    result["total_s"] = round(time.perf_counter() - started, 1)
    result["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30, 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
