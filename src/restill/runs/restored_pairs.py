"""Pairs: where the clean image of each measurement is known, how near the measurement and its restoration are to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.progress import progress_bar
from ..core.views import seen
from ..metrics import PAIR_METRICS, Estimate, Result, Subject, lpips, pixels_of, psnr, ssim
from ..store import Batch, Store, open_store
from ..store.reference import Reference
from .folder import Run
from .subjects import Source

_BLOCK = 256
_SIGMA_MIN = 0.002  # the smallest level that a sampler asks the network for
_ALIKE = 1e-3  # of the largest value: photon noise has a tabulated inverse
_METRICS: dict[str, Callable[[Tensor, Tensor], Estimate]] = {"psnr": psnr, "ssim": ssim, "lpips": lpips}


def restoration(run: Run, store: Store, clean: Reference, teacher: Source) -> list[Result]:
    """PSNR, SSIM and, if asked for, LPIPS of the measurements, of the teacher's restoration of each, and of baselines.

    The restoration is the posterior mean `D(y; sigma_n)`: one evaluation of the teacher at the noise level of the
    measurement, which is where the truncated sampler ends. There is none where what a teacher denoises is no image but
    a blurred one, one of lower resolution or another measurement: its posterior mean restores that. Of complex images
    the magnitudes are compared, and the measurement is its zero-filled reconstruction.
    """
    section = run.recipe.evaluation
    wanted = [name for name in PAIR_METRICS if name in section.metrics]
    if not wanted or not clean.pairs_with(store) or teacher.config.role != "teacher":
        return []
    index, reference, observed = _changed(store, clean, section.samples)
    if not len(index) or not shows_image(store.batch(index[:_BLOCK]), reference[:_BLOCK]):
        return []
    subjects: dict[Subject, Tensor] = {"measurements": observed}
    if run.reconstructions.exists():
        subjects["l1-wavelet"] = open_store(run.reconstructions).batch(index).y
    with progress_bar(f"{'restored':17}", len(index)) as advance:
        restored = []
        for part in index.split(min(_BLOCK, store.block)):
            restored.append(restore(teacher, store.batch(part)))
            advance(done=len(part))
    noisy = store.corruption.sigma_max > 0
    subjects["teacher-truncated" if noisy else "teacher-full"] = torch.cat(restored)
    results, reference = [], seen(reference, clean.is_complex)
    for subject, images in subjects.items():
        looks = seen(images, clean.is_complex)
        results += [_result(subject, name, _METRICS[name](looks, reference), len(index), clean) for name in wanted]
    return results


def shows_image(batch: Batch, clean: Tensor) -> bool:
    """Whether measurements without their noise are what is seen of the clean images, as a teacher of images learned."""
    missing = batch.operator.missing()
    if missing is not None and missing.shape[2:] != clean.shape[2:]:
        return False
    difference = batch.operator.to_image(batch.operator.apply(clean)) - batch.operator.seen(clean)
    return float(difference.abs().max()) <= _ALIKE * float(clean.abs().max())


def restore(teacher: Source, batch: Batch) -> Tensor:
    """Posterior means `E[x | y]` of measurements, float32 `[n, C, H, W]` on the CPU."""
    parameter = next(teacher.denoiser.parameters())
    batch = batch.to(parameter.device)
    operator = batch.operator
    sigma = operator.sigma_n.clamp(min=_SIGMA_MIN)
    with torch.no_grad():
        d = operator.to_domain(operator.restrict(batch.y))
        images = operator.from_domain(teacher.denoiser(d, sigma, operator, batch.labels))
    return images.float().cpu()


def _changed(store: Store, clean: Reference, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the first `n` pairs those whose measurement is not its clean image: row, clean image, measurement."""
    index = torch.arange(len(store))[:n]
    reference, observed = clean.images(index), torch.cat([store.images(part) for part in index.split(store.block)])
    changed = (observed != reference).flatten(1).any(dim=1)
    return index[changed], reference[changed], observed[changed]


def _result(subject: Subject, metric: str, estimate: Estimate, n: int, clean: Reference) -> Result:
    pixels = pixels_of(clean.image_shape, clean.is_complex)
    return Result(
        subject=subject,
        metric=metric,
        features="pairs",
        value=estimate.value,
        std=estimate.std,
        uncertainty=estimate.uncertainty,
        n=n,
        reference="clean",
        features_fingerprint=pixels.fingerprint,
        reference_fingerprint=clean.fingerprint,
        sampler=None if subject in ("measurements", "l1-wavelet") else "each measurement restored in one evaluation",
    )
