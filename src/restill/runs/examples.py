"""What a report shows of clean images. `evaluate`, which may open them, leaves it in the run; the report reads it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..checkpoint import load_state, save_state
from ..checks.nearest import missing_pixels
from ..core.errors import UserError
from ..core.views import clipped, displayed
from ..generator import Generator
from ..metrics import Result
from ..report import Examples, Triples
from ..restoration import posterior_mean, shows_image
from ..store import Samples, Store
from .folder import Run

_TRIPLES = 6
_CANDIDATES = 64  # pairs among which measurements are looked for that are not their clean images
_PARTS = ("measured", "truth", "restored", "missing")


def save_examples(run: Run, store: Store, clean: Samples, paired: bool, teacher: Generator) -> None:
    """Write the first clean images to the run, and some measurements with their restorations and clean images.

    Args:
        clean: the clean images, on the image grid.
        paired: whether image `i` is the one behind measurement `i`.
        teacher: restores, where it denoises images.
    """
    first = torch.arange(min(run.recipe.sampling.show, len(clean)))
    tensors = {"clean": clipped(clean.images(first), store.bounds)}
    if paired:
        index = torch.arange(min(_CANDIDATES, len(store)))
        truth, measured = clean.images(index), store.images(index)
        rows = (measured != truth).flatten(1).any(dim=1).nonzero()[:_TRIPLES, 0]
        batch, truth = store.batch(index[rows]), truth[rows]
        missing = missing_pixels(batch, store.corruption, store.image_shape)
        tensors |= {"measured": measured[rows], "truth": truth} | ({} if missing is None else {"missing": missing})
        if len(rows) and teacher.config.role == "teacher" and shows_image(batch, truth):
            tensors["restored"] = clipped(posterior_mean(teacher.denoiser, batch), store.bounds)
    save_state(run.examples, tensors, {"reference": clean.fingerprint, "measurements": store.fingerprint})


def load_examples(run: Run, store: Store, results: Sequence[Result]) -> Examples | None:
    """What the evaluation left; None if nothing, or if it belongs to other measurements or another reference.

    Raises:
        UserError: a file that `evaluate` did not write.
    """
    if not run.examples.exists():
        return None
    tensors, data = load_state(run.examples)
    compared = [result.reference_fingerprint for result in results if result.reference == "clean"]
    if data.get("measurements") != store.fingerprint or data.get("reference") not in compared:
        return None
    for name, tensor in tensors.items():
        if tuple(tensor.shape[1:]) != store.image_shape or not bool(tensor.isfinite().all()):
            raise UserError(f"{run.examples}: {name} holds no images of this run; evaluate it again")
    seen = {
        name: tensor if name == "missing" else displayed(tensor.float(), store.is_complex)
        for name, tensor in tensors.items()
    }
    if "clean" not in seen:
        return None
    triples = None
    if len(seen.get("truth", ())) and "measured" in seen:
        triples = Triples(seen["measured"], seen.get("restored"), seen["truth"], seen.get("missing"))
    return Examples(seen["clean"], triples)
