"""L1-wavelet reconstructions of all measurements of a store, as a store of noise-free images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..core.progress import progress_bar
from ..corruption import AdditiveNoise
from ..store import Contents, Store, StoreWriter
from .baselines import BaselineSettings
from .compressed_sensing import CompressedSensing, reconstruct
from .weight import CANDIDATES, WeightChoice, choose_weight_for

WAVELETS = ("haar", "db4")


def choose_wavelet(store: Store, settings: BaselineSettings, seed: int) -> dict[str, Any]:
    """Wavelet and weight as plain data: as stated, or without a weight the ones that best predict held-out lines."""
    found: dict[str, WeightChoice] = {}
    if settings.weight is None:
        with progress_bar(f"{'l1-wavelet weight':17}", len(WAVELETS) * len(CANDIDATES), unit="weights") as advance:
            for each in WAVELETS:
                method = CompressedSensing(0.0, settings.iterations, each)
                found[each] = choose_weight_for(store, method, seed, advance=advance)
    best = min(found, key=lambda each: min(found[each].errors), default=settings.wavelet)
    return {
        "wavelet": best,
        "weight": found[best].weight if found else settings.weight,
        "iterations": settings.iterations,
        "candidates": list(CANDIDATES),
        "errors": {each: list(tried.errors) for each, tried in found.items()} or None,
    }


def choice_in_words(choice: Mapping[str, Any]) -> str:
    """What `choose_wavelet` gave, for `metrics.json`."""
    rule = "as stated" if choice["errors"] is None else "chosen by held-out lines"
    return f"L1-wavelet ({choice['wavelet']}, weight {choice['weight']:.2g}, {rule}), {choice['iterations']} iterations"


def write_reconstructions(store: Store, out: Path, choice: Mapping[str, Any]) -> None:
    """Reconstruct every measurement of a store of complex images. Raises UserError as `CompressedSensing`."""
    manifest = store.manifest
    contents = Contents(
        kind="measurements",
        shape=manifest.image_shape,
        image_shape=manifest.image_shape,
        normalisation=manifest.normalisation,
        value_range=manifest.value_range,
        classes=manifest.classes,
        corruption=AdditiveNoise().describe(),
        values="complex",
    )
    name, start = f"{manifest.provenance.source}, L1-wavelet", 0
    with (
        progress_bar(f"{'l1-wavelet':17}", len(store)) as advance,
        StoreWriter(out, contents, source=name, seed=None) as writer,
    ):
        method = CompressedSensing(float(choice["weight"]), int(choice["iterations"]), str(choice["wavelet"]))
        for images in reconstruct(store, method, advance):
            labels = None if store.labels is None else store.labels[start : start + len(images)]
            writer.append(images, {"sigma_n": torch.zeros(len(images))}, labels)
            start += len(images)
