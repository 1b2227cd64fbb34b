"""The classifier of a run's clean reference: trained once, kept in the run, used wherever numbers are to compare."""

from __future__ import annotations

import torch

from ..core.errors import UserError
from ..core.files import write_json
from ..core.processes import Processes
from ..core.progress import progress_bar
from ..core.reading import read_json
from ..core.views import displayed
from ..metrics import Features, as_displayed, load_classifier, train_classifier
from ..store.reference import Reference
from .folder import Run

_STEPS = 400


def reference_classifier(run: Run, clean: Reference, processes: Processes) -> Features | None:
    """The classifier trained on the labelled reference; None without labels, or where images are below 8 by 8.

    Of complex images it sees the magnitudes.
    """
    if not run.recipe.evaluation.classifier or clean.labels is None or min(clean.image_shape[1:]) < 8:
        return None
    folder, trained_on = run.path / "classifier", run.path / "classifier" / "reference.json"
    if processes.first and not _kept(run, clean):
        images = displayed(clean.images(torch.arange(len(clean))), clean.is_complex)
        with progress_bar(f"{'classifier':17}", _STEPS, unit="steps") as advance:
            train_classifier(images, clean.labels, steps=_STEPS, advance=advance).save(folder)
        write_json(trained_on, {"reference": clean.fingerprint})  # last: it says that the rest is complete
    processes.wait()
    return as_displayed(load_classifier(folder), clean.is_complex)


def _kept(run: Run, clean: Reference) -> bool:
    """Whether the run has the classifier of this very reference already."""
    folder = run.path / "classifier"
    try:
        load_classifier(folder)
        return bool(read_json(folder / "reference.json") == {"reference": clean.fingerprint})
    except UserError:
        return False
