"""The section `baselines` of a recipe: what a student of undersampled k-space is compared with."""

from __future__ import annotations

from ..core.settings import Section, setting


class BaselineSettings(Section):
    """Classical reconstructions, and a diffusion model of them."""

    section = "baselines"

    l1_wavelet: bool = setting(False, "L1-wavelet compressed sensing of every measurement")
    l1_edm: bool = setting(False, "a diffusion model of these reconstructions, trained like the teacher")
    iterations: int = setting(100, "of FISTA", gt=0)
    weight: float | None = setting(None, "of the L1 norm; null chooses it by held-out lines", gt=0)
    wavelet: str = setting("db4", "with a stated weight; chosen with it otherwise")
