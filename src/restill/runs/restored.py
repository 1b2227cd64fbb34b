"""What the teacher and the baselines restore of a run's measurements, against clean images and against k-space."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks.data_consistency import Way, data_consistency_checks
from ..core.progress import progress_bar
from ..generator import Generator
from ..metrics import PAIR_METRICS, Check, Result, Subject, pair_results
from ..restoration import posterior_mean, shows_image
from ..store import Store, open_store
from ..store.reference import Reference
from .folder import Run

_BLOCK = 256


def scores(run: Run, store: Store, clean: Reference, teacher: Generator) -> list[Result]:
    """PSNR, SSIM and, if asked for, LPIPS of the measurements, of the teacher's restoration of each, and of baselines.

    There is none where what a teacher denoises is no image but a blurred one, one of lower resolution or another
    measurement: its posterior mean restores that.
    """
    section = run.recipe.evaluation
    wanted = [name for name in PAIR_METRICS if name in section.metrics]
    if not wanted or not clean.pairs_with(store) or teacher.config.role != "teacher":
        return []
    index, reference, observed = _changed(store, clean, section.samples)
    if not len(index) or not shows_image(store.batch(index[:_BLOCK]), reference[:_BLOCK]):
        return []
    noisy = store.corruption.sigma_max > 0
    subjects: dict[Subject, Tensor] = {"measurements": observed}
    if run.reconstructions.exists():
        subjects["l1-wavelet"] = open_store(run.reconstructions).stored(index)
    subjects["teacher-truncated" if noisy else "teacher-full"] = _restored(store, index, teacher)
    return pair_results(subjects, reference, wanted, clean)


def consistency(run: Run, store: Store, teacher: Generator) -> list[Check]:
    """How well reconstructions of k-space fit what was measured; none for images that are not complex."""
    if not store.is_complex:
        return []
    ways = [Way("measurements", "zero-filled reconstructions", lambda batch, _: batch.operator.to_image(batch.y))]
    if run.reconstructions.exists():
        made = open_store(run.reconstructions, verify=False)
        ways.append(Way("l1-wavelet", "L1-wavelet reconstructions", lambda _, rows: made.stored(rows)))
    if teacher.config.role == "teacher":
        denoiser = teacher.denoiser
        ways.append(
            Way("teacher-full", "the teacher's reconstructions", lambda batch, _: posterior_mean(denoiser, batch))
        )
    return data_consistency_checks(store, ways)


def _restored(store: Store, index: Tensor, teacher: Generator) -> Tensor:
    restored = []
    with progress_bar(f"{'restored':17}", len(index)) as advance:
        for part in index.split(min(_BLOCK, store.block)):
            restored.append(posterior_mean(teacher.denoiser, store.batch(part)))
            advance(done=len(part))
    return torch.cat(restored)


def _changed(store: Store, clean: Reference, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the first `n` pairs those whose measurement is not its clean image: row, clean image, measurement."""
    index = torch.arange(len(store))[:n]
    reference, observed = clean.images(index), torch.cat([store.images(part) for part in index.split(store.block)])
    changed = (observed != reference).flatten(1).any(dim=1)
    return index[changed], reference[changed], observed[changed]
