"""Reference statistics as files: the `.npz` with `mu` and `sigma` of EDM and of most code that computes FIDs.

The format holds a mean and a covariance (float64, divisor n - 1), but not what they describe. `save_reference` adds the
number of images and the features, which other programs ignore and `load_reference` checks.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..core.errors import UserError
from ..core.files import replacing
from .features import Features
from .frechet import Moments

_SYMMETRY = 1e-6  # largest |sigma - sigma^T| beside the largest |sigma|; float32 sums leave about 1e-7
_NAMED = ("features", "features_fingerprint", "features_resize")
_KNOWN = ("mu", "sigma", "n", *_NAMED)  # nothing else of a file is read; some hold all reference images besides
Arrays = dict[str, npt.NDArray[np.generic]]


def save_reference(path: Path, moments: Moments, features: Features) -> None:
    """Write `mu`, `sigma`, `n`, `features`, `features_fingerprint` and `features_resize` to an `.npz`, atomically.

    Raises:
        UserError: the moments are not of these features, or the file cannot be written.
    """
    if moments.dim != features.dim:
        raise UserError(
            f"{path}: moments of {moments.dim} features are not those of {features.name!r} ({features.dim})"
        )
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            mu=moments.mean.numpy(),
            sigma=moments.cov.numpy(),
            n=np.array(moments.n),
            features=np.array(features.name),
            features_fingerprint=np.array(features.fingerprint),
            features_resize=np.array(features.resize),
        )


def load_reference(path: Path, features: Features, n: int | None = None) -> Moments:
    """Read the reference statistics of `features`, as `save_reference` or other programs wrote them.

    Files of other programs do not name their features; any of the right dimension are accepted.

    Args:
        n: number of images behind the statistics, at least 2; needed where the file does not say it (that of CIFAR-10
            in EDM: 50,000), for a Fréchet distance is biased by an amount that depends on n.

    Raises:
        UserError: the file cannot be read, is of other features or another n, n is unknown, or `mu` and `sigma` are no
            mean and covariance of `features.dim` finite numbers.
    """
    arrays = _read(path)
    _check_features(path, arrays, features)
    mean = _floats(path, arrays, "mu", (features.dim,))
    cov = _floats(path, arrays, "sigma", (features.dim, features.dim))
    if np.abs(cov - cov.T).max() > _SYMMETRY * np.abs(cov).max():
        raise UserError(f"{path}: sigma must be a covariance, but it is not symmetric")
    if cov.diagonal().min() < 0:
        raise UserError(f"{path}: sigma must be a covariance, but it holds the variance {cov.diagonal().min():.3g}")
    return Moments(_count(path, arrays, n), torch.from_numpy(mean), torch.from_numpy((cov + cov.T) / 2))


def _read(path: Path) -> Arrays:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f"{path}: must be an .npz with arrays mu and sigma, not a single array")
        with archive:
            return {key: archive[key] for key in archive.files if key in _KNOWN}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: is not an .npz with arrays mu and sigma ({error})") from error


def _floats(path: Path, arrays: Arrays, key: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    if key not in arrays:
        raise UserError(f"{path}: must hold the arrays mu and sigma; {key} is missing")
    array = arrays[key]
    if array.shape != shape or array.dtype.kind != "f":
        raise UserError(
            f"{path}: {key} must be real numbers of shape {list(shape)}, not {array.dtype} {list(array.shape)}"
        )
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {key} holds NaN or infinite values")
    return array.astype(np.float64)


def _check_features(path: Path, arrays: Arrays, features: Features) -> None:
    ours = (features.name, features.fingerprint, features.resize)
    for key, value in zip(_NAMED, ours, strict=True):
        if key in arrays and str(arrays[key]) != value:
            raise UserError(f"{path}: {key} is {str(arrays[key])!r}, but the features in use have {value!r}")


def _count(path: Path, arrays: Arrays, n: int | None) -> int:
    """The number of images: that of the file, which must agree with `n` where both are known."""
    known = n
    if "n" in arrays:
        if arrays["n"].shape != () or arrays["n"].dtype.kind not in "iu":
            raise UserError(f"{path}: n must be one integer, not {arrays['n'].dtype} {list(arrays['n'].shape)}")
        known = int(arrays["n"])
        if n is not None and n != known:
            raise UserError(f"{path}: describes {known} images, not {n}")
    if known is None:
        raise UserError(f"{path}: the number of images is missing: state n")
    if known < 2:
        raise UserError(f"{path}: n must be at least 2 images, not {known}")
    return known
