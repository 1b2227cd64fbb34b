"""Posterior samples of all measurements, as a store of noise-free observations by the same operators."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import progress_bar
from ..core.tensors import right_broadcast, seeded
from ..diffusion import Denoiser
from ..sampling import Reverse
from ..store import Batch, Contents, Store, StoreWriter


def check_white(batch: Batch) -> None:
    """Raises UserError where the noise of measurements as they are stored is not white, as for photon noise."""
    operator = batch.operator
    if not torch.equal(operator.observed(batch.y), operator.restrict(batch.y)):
        raise UserError(
            f"refine: needs measurements whose noise is white as they are stored, and {type(operator).__name__} has "
            "others; set refine.rounds to 0"
        )


def write_posterior_samples(
    denoiser: Denoiser,
    store: Store,
    sampler: Reverse,
    out: Path,
    *,
    draws: int,
    spread: float = 1.0,
    seed: int = 0,
    batch_size: int = 256,
) -> None:
    """Draw `draws` posterior samples of what each measurement observed without its noise, and write them to `out`.

    Sample `k` depends on the seed and on its place in the store alone, up to rounding between sizes of batches.

    Args:
        denoiser: on the device where it draws; it is called at levels up to the noise of each measurement.
        spread: factor on the deviation of the samples from their mean, the denoised measurement; 1 for samples as
            they are.

    Raises:
        UserError: `out` exists; or the measurements' noise is not white as they are stored.
    """
    device = next(denoiser.parameters()).device
    known = {name: getattr(store.manifest, name) for name in Contents.model_fields}
    name = f"{store.manifest.provenance.source}, posterior samples"
    with (
        progress_bar(f"{'posterior samples':17}", draws * len(store)) as advance,
        StoreWriter(out, Contents(**known), source=name, seed=seed) as writer,
    ):
        for draw in range(draws):
            for k, batch in enumerate(store.iterate(batch_size)):
                check_white(batch)
                there, generator = batch.to(device), seeded("posterior", seed, draw, k, device=device)
                labels = there.labels if denoiser.num_classes else None
                y = sampler(denoiser, there.y, there.operator, generator, labels)
                if spread != 1:
                    y = torch.lerp(_mean(denoiser, there, labels), y, spread)
                parameters = batch.operator.parameters() | {"sigma_n": torch.zeros(len(batch))}
                writer.append(y, parameters, batch.labels)
                advance(done=len(batch))


@torch.no_grad()
def _mean(denoiser: Denoiser, batch: Batch, labels: Tensor | None) -> Tensor:
    """What was observed of the denoised measurements, in the white space."""
    operator, y = batch.operator, batch.y
    denoised = denoiser(operator.to_domain(y), operator.sigma_n.clamp_min(1e-8), operator, labels)
    return torch.where(right_broadcast(operator.sigma_n, y) > 0, operator.predicted(denoised), y)
