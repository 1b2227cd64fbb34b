"""`restill import` of multi-coil k-space: which options go with it, and what is said of the maps that were found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import UserError
from .options import level_of, say, size_of, warn

if TYPE_CHECKING:
    from ..store import Store

TOLERANCE = 0.2  # maps found in 16 of 128 lines leave 0.05, in 4 lines 0.1; maps of the wrong coils 0.5
_NAMED = 5


class Residuals:
    """Collects how much of its calibration data the maps of each slice cannot explain."""

    def __init__(self) -> None:
        self.found: list[tuple[float, str]] = []

    def __call__(self, where: str, residual: float) -> None:
        self.found.append((residual, where))

    def summary(self) -> str:
        """Median and worst, in words."""
        ordered = sorted(self.found)
        median, (worst, where) = ordered[len(ordered) // 2][0], ordered[-1]
        return f"coil maps leave {median:.1%} of the calibration data (median), at most {worst:.1%}, of {where}"

    def warn(self, tolerance: float) -> None:
        """Name slices that leave more than `tolerance` on stderr, the worst first and five at most."""
        beyond = sorted((each for each in self.found if each[0] > tolerance), reverse=True)
        lines = [
            f"warning: {where}: its coil maps leave {residual:.1%} of the calibration data unexplained; check maps, "
            "mask and number of coils"
            for residual, where in beyond[:_NAMED]
        ]
        if len(beyond) > _NAMED:
            lines.append(f"warning: and {len(beyond) - _NAMED:,} more slices beyond {tolerance:.0%}")
        for line in lines:
            warn(line)


def check_options(is_kspace: bool, source: Path, of_kspace: Mapping[str, Any], of_images: Mapping[str, Any]) -> None:
    """Raises UserError for an option that says nothing of what is imported; None and False are not given."""
    wrong = of_images if is_kspace else of_kspace
    given = next((name for name, value in wrong.items() if value not in (None, False)), None)
    if given is not None:
        what, other = ("k-space", "images") if is_kspace else ("no k-space", "k-space")
        raise UserError(f"{given} is for {other}, but {source} is {what}; leave it out")


def import_kspace_command(
    source: Path,
    out_path: Path,
    *,
    sigma_n: str | None,
    law: Mapping[str, Any] | None,
    mask: str | None,
    maps: Path | None,
    crop: str | None,
    coils: int | None,
    reference: Path | None,
    seed: int | None,
    tolerance: float | None,
) -> None:
    """What `restill import` does with k-space. Raises UserError as `import_kspace`."""
    from ..acquisition import import_kspace
    from ..core.progress import progress_bar
    from ..io import open_kspace

    if tolerance is not None and not 0 <= tolerance <= 1:
        raise UserError(f"--tolerance must lie between 0 and 1, not {tolerance:g}")
    kspace, residuals = open_kspace(source), Residuals()
    level = None if sigma_n is None else level_of(sigma_n, law)
    with progress_bar("import", 2 * len(kspace), unit="slices") as advance:
        store = import_kspace(
            kspace,
            out_path,
            reference=reference,
            crop=size_of(crop, "--crop"),
            coils=coils,
            mask=mask,
            maps=maps,
            law=law,
            sigma_n=level,  # type: ignore[arg-type]
            seed=seed or 0,
            advance=advance,
            told=residuals,
        )
    say(f"{out_path}: {kspace_summary(store)}; {residuals.summary()}")
    residuals.warn(TOLERANCE if tolerance is None else tolerance)


def kspace_summary(store: Store) -> str:
    """What was imported, in words."""
    measured = [batch.operator.parameters()["mask"] for batch in store.iterate(store.block) if batch.operator]
    share = sum(float(mask.double().flatten(1).mean(1).sum()) for mask in measured) / len(store)
    level = store.manifest.sigma_n
    noise = f"sigma_n {level.mean:.4g} in the store" if level.max else "no noise stated (sigma_n 0)"
    _, height, width = store.image_shape
    coils = store.shape[0] // 2
    return f"{len(store):,} slices of {height}x{width}, {coils} coils, {share:.1%} of k-space measured; {noise}"
