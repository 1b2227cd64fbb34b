"""`restill sample`: images of a run, into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.files import remove_temporaries
from ..core.progress import progress_bar
from ..generator import Generator
from .folder import open_run
from .saved_images import check_output, save_grids, save_image
from .subjects import GENERATED, trained


def sample_run(
    path: Path,
    folder: Path,
    n: int,
    seed: int,
    subject: str,
    overrides: Sequence[str] = (),
    of_class: str | None = None,
) -> str:
    """Draw `n` images of a run into `folder`, with a grid of the first ones, and of complex ones of their phases.

    Args:
        of_class: draw images of this class alone, a name or an index; of a class-conditional run.

    Returns:
        Which classes were drawn, a clause; empty where the run is not class-conditional.

    Raises:
        UserError: `n` below 1, an unknown sampler or class, a truncated sampler for measurements without noise, a stage
            that is not trained, or a folder with other files.
    """
    if n < 1:
        raise UserError(f"-n must be at least 1, not {n}")
    if subject not in GENERATED:
        raise UserError(f"--sampler must be one of {', '.join(GENERATED)}, not {subject!r}")
    check_output(folder)
    remove_temporaries(folder)
    run = open_run(path, overrides)
    source = trained(run, next(name for name in GENERATED if name == subject))
    if subject == "teacher-truncated" and source.config.build_corruption().sigma_max == 0:
        raise UserError(
            f"--sampler teacher-truncated stops at the noise level of the measurements, but those of {path} have no "
            "noise; use teacher-full"
        )
    labels = None if of_class is None else _labels(source, of_class, n)
    shown: list[Tensor] = []
    index = 0
    with progress_bar(subject, n) as advance:
        for batch in source.draw(range(n), seed, labels=labels):
            for image in batch:
                save_image(folder, index, image, source.config)
                index += 1
            if len(shown) * source.batch_size < run.recipe.sampling.show:
                shown.append(batch)
            advance(done=len(batch))
    save_grids(folder / "grid.png", torch.cat(shown)[: run.recipe.sampling.show], source.config.complex_values)
    if source.classes is None:
        return ""
    return source.classes.in_words if labels is None else f"of class {source.classes.name(int(labels[0]))}"


def _labels(source: Generator, of_class: str, n: int) -> Tensor:
    try:
        return source.labels(of_class, n)
    except UserError as error:
        raise UserError(f"--class {of_class}: {error}") from None
