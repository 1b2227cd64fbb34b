"""The section `baselines` of a recipe: what a student of undersampled k-space is compared with."""

from __future__ import annotations

from ..core.settings import Section, setting


class BaselineSettings(Section):
    """Classical reconstructions, and a diffusion model of them."""

    section = "baselines"

    l1_wavelet: bool = setting(False, "whether to reconstruct every measurement by L1-wavelet compressed sensing")
    l1_edm: bool = setting(False, "whether to train a diffusion model of these reconstructions")
    iterations: int = setting(100, "iterations of FISTA", gt=0)
    weight: float | None = setting(None, "weight of the L1 norm; null chooses it with held-out lines", gt=0)
    wavelet: str = setting("db4", "wavelet for a stated weight; otherwise chosen together with the weight")
