"""What `restill import` says of the coil maps that it found in multi-coil k-space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .options import warn

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

    def summary(self, store: Store) -> str:
        """What was imported, with the median and the worst slice, in words."""
        masks = [batch.operator.parameters()["mask"] for batch in store.iterate()]
        share = sum(float(mask.double().flatten(1).mean(1).sum()) for mask in masks) / len(store)
        level, (_, height, width) = store.manifest.sigma_n, store.image_shape
        noise = f"sigma_n {level.mean:.4g} in the store" if level.max else "no noise stated (sigma_n 0)"
        ordered = sorted(self.found)
        median, (worst, where) = ordered[len(ordered) // 2][0], ordered[-1]
        return (
            f"{len(store):,} slices of {height}x{width}, {store.shape[0] // 2} coils, {share:.1%} of k-space measured; "
            f"{noise}; coil maps leave {median:.1%} of the calibration data "
            f"unexplained (median; at most {worst:.1%}, {where})"
        )

    def warn(self, tolerance: float) -> None:
        """Name slices that leave more than `tolerance` on stderr, the worst first and five at most."""
        beyond = sorted((each for each in self.found if not each[0] <= tolerance), reverse=True)
        lines = [
            f"warning: {where}: its coil maps leave {residual:.1%} of the calibration data unexplained; check maps, "
            "mask and number of coils"
            for residual, where in beyond[:_NAMED]
        ]
        if len(beyond) > _NAMED:
            lines.append(f"warning: slices beyond {tolerance:.0%} that are not named: {len(beyond) - _NAMED:,}")
        for line in lines:
            warn(line)
