"""What a student of undersampled k-space is compared with: L1-wavelet reconstructions, and a diffusion model of these.

Both see the measurements alone. The diffusion model ("L1 + EDM") is trained like the teacher, for as many images, with
the ordinary denoising objective, on reconstructions as if they were clean.
"""

from __future__ import annotations

from typing import Any

import torch

from ..core.errors import UserError
from ..core.files import read_json, write_json
from ..core.progress import progress_bar
from ..corruption import AdditiveNoise
from ..restoration import CANDIDATES, WeightChoice, choose_weight_for, reconstruct
from ..store import Contents, Store, StoreWriter, open_store
from .folder import Run
from .phases import train_denoiser

WAVELETS = ("haar", "db4")


def baselines(run: Run) -> None:
    """Make those that the recipe asks for, or continue, or find them done. Raises UserError where k-space is needed."""
    section = run.recipe.baselines
    if section.l1_wavelet or section.l1_edm:
        _reconstruct(run)
    if section.l1_edm and not run.trained("baseline"):
        train_denoiser(run, "baseline", open_store(run.reconstructions))


def how_reconstructed(run: Run) -> str:
    """The reconstructions in words, for `metrics.json`."""
    choice = read_json(run.stage("baseline") / "l1-wavelet.json")
    rule = "as stated" if choice["errors"] is None else "chosen by held-out lines"
    return f"L1-wavelet ({choice['wavelet']}, weight {choice['weight']:.2g}, {rule}), {choice['iterations']} iterations"


def _reconstruct(run: Run) -> None:
    """L1-wavelet reconstructions of all measurements as a store of noise-free images."""
    if run.reconstructions.exists():
        return
    store, section = open_store(run.store), run.recipe.baselines
    if not store.is_complex:
        raise UserError("baselines are for undersampled k-space, corruption kind mri; leave them out of the recipe")
    choice = _choice(run, store)
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
        StoreWriter(run.reconstructions, contents, source=name, seed=None) as writer,
    ):
        wavelet, weight = str(choice["wavelet"]), float(choice["weight"])
        for images in reconstruct(store, weight, advance, section.iterations, wavelet):
            labels = None if store.labels is None else store.labels[start : start + len(images)]
            writer.append(images, {"sigma_n": torch.zeros(len(images))}, labels)
            start += len(images)


def _choice(run: Run, store: Store) -> dict[str, Any]:
    """Wavelet and weight: those stated in the recipe, or the candidates that predict held-out lines best."""
    section, path = run.recipe.baselines, run.stage("baseline") / "l1-wavelet.json"
    if path.exists():
        return dict(read_json(path))
    found: dict[str, WeightChoice] = {}
    if section.weight is None:
        with progress_bar(f"{'l1-wavelet weight':17}", len(WAVELETS) * len(CANDIDATES), unit="weights") as advance:
            for wavelet in WAVELETS:
                found[wavelet] = choose_weight_for(
                    store, seed=run.recipe.seed, iterations=section.iterations, wavelet=wavelet, advance=advance
                )
    best = min(found, key=lambda wavelet: min(found[wavelet].errors), default=section.wavelet)
    choice = {
        "wavelet": best,
        "weight": found[best].weight if found else section.weight,
        "iterations": section.iterations,
        "candidates": list(CANDIDATES),
        "errors": {wavelet: list(tried.errors) for wavelet, tried in found.items()} or None,
    }
    write_json(path, choice)
    return choice
