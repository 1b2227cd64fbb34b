"""What a student of undersampled k-space is compared with: L1-wavelet reconstructions, and a diffusion model of these.

Both see the measurements alone. The diffusion model ("L1 + EDM") is trained like the teacher, for as many images, with
the ordinary denoising objective, on reconstructions as if they were clean.
"""

from __future__ import annotations

from ..core.errors import UserError
from ..core.files import write_json
from ..core.reading import read_json
from ..restoration.reconstructions import choice_in_words, choose_wavelet, write_reconstructions
from ..store import Store, open_store
from .folder import Run
from .phases import train_denoiser
from .provenance import begin, complete


def baselines(run: Run) -> None:
    """Make or continue the baselines of the recipe. Raises UserError for measurements other than k-space."""
    section = run.recipe.baselines
    if section.l1_wavelet or section.l1_edm:
        check_baselines(run, open_store(run.store, verify=False))
        begin(run, "baseline")
        _reconstruct(run)
        if section.l1_edm and not run.trained("baseline"):
            train_denoiser(run, "baseline", open_store(run.reconstructions))
        complete(run, "baseline")


def how_reconstructed(run: Run) -> str:
    """The reconstructions in words, for `metrics.json`."""
    return choice_in_words(read_json(run.stage("baseline") / "l1-wavelet.json"))


def check_baselines(run: Run, store: Store) -> None:
    """Raises UserError for baselines of measurements other than k-space."""
    section = run.recipe.baselines
    if (section.l1_wavelet or section.l1_edm) and not store.is_complex:
        key = "l1_wavelet" if section.l1_wavelet else "l1_edm"
        raise UserError(f"baselines.{key}: needs undersampled k-space (corruption kind mri); remove it")


def _reconstruct(run: Run) -> None:
    """L1-wavelet reconstructions of all measurements, with what was chosen for them beside them."""
    if run.reconstructions.exists():
        return
    store, section, path = open_store(run.store), run.recipe.baselines, run.stage("baseline") / "l1-wavelet.json"
    if not path.exists():
        choice = choose_wavelet(store, section, run.recipe.seed)
        write_json(path, choice)
    write_reconstructions(store, run.reconstructions, read_json(path) | {"iterations": section.iterations})
