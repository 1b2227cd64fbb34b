"""The commands that write stores of measurements and estimate their noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ..core.errors import UserError
from ..core.limits import LIMIT
from ..core.paths import check_images, check_there
from .coil_residuals import TOLERANCE, Residuals
from .options import (
    CorruptionOption,
    Plugins,
    Set,
    corruption_of,
    level_of,
    say,
    show,
    warn,
)

if TYPE_CHECKING:
    from ..acquisition import DataSettings
    from ..corruption import Corruption
    from ..store import Store


class DescribedBySettings(TyperCommand):
    """A command whose options without a help are keys of section `data`: what they do is said there."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        silent = [param for param in params if getattr(param, "help", "") is None]
        if silent:
            from ..acquisition.settings import DataSettings
            from ..core.settings import keys_of

            keys = {key.name: key for key in keys_of(DataSettings)}
            for param in silent:
                key = keys[param.name]
                param.help = f"{key.does} ({key.unit})" if key.unit else key.does
        return params


def corrupt(
    source: Annotated[
        str,
        typer.Argument(help="folder, archive or array file of clean images, or `digits`", callback=check_images),
    ],
    out_path: Annotated[Path, typer.Option("--out", metavar="STORE", help="store of measurements to write")],
    reference: Annotated[
        Path | None, typer.Option(help="store of the clean images to write, for restill evaluate")
    ] = None,
    sigma_n: Annotated[
        float | None,
        typer.Option(help="white Gaussian noise of this level, for images in [-1, 1], and no other corruption"),
    ] = None,
    clean_fraction: Annotated[float, typer.Option(help="share of images without noise, 0 to 1")] = 0.0,
    corruption: CorruptionOption = None,
    recipe: Annotated[str | None, typer.Option(help="use the corruption of this recipe instead")] = None,
    settings: Set = None,
    plugins: Plugins = None,
    resize: Annotated[int | None, typer.Option(help="crop to the centre square and resize to this side")] = None,
    range: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="values that become -1 and 1; found by default")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="megabytes of memory that one image of the files may take")] = LIMIT,
    seed: Annotated[int, typer.Option(min=0, help="seed of the operators and the noise")] = 0,
) -> None:
    """Make a benchmark: corrupt clean images into a store, and keep the clean ones in a store of their own."""
    from ..acquisition import corrupt_images
    from ..core.progress import progress_bar
    from ..io import images_named

    stated = _corruption(sigma_n, clean_fraction, corruption, recipe, settings)
    images = images_named(source, resize, limit=limit)
    value_range = None if range is None else _data_of(Path(source), False, {"range": range}, {}).range
    with progress_bar("corrupt", len(images)) as advance:
        store = corrupt_images(images, stated, out_path, reference, seed, advance, value_range=value_range)
    say(f"{out_path}: {len(store):,} measurements of shape {list(store.shape)}")


def _corruption(
    sigma_n: float | None,
    clean_fraction: float,
    corruption: str | None,
    recipe: str | None,
    settings: list[str] | None,
) -> Corruption:
    """The corruption, stated in one of three ways. Raises UserError for none or several of them."""
    from ..corruption import AdditiveNoise, corruption_from
    from ..runs.recipe_files import load_recipe

    if [sigma_n, corruption, recipe].count(None) != 2:
        raise UserError("state one of --sigma-n, --corruption and --recipe; the last two also state the noise")
    if not 0 <= clean_fraction <= 1:
        raise UserError(f"--clean-fraction must lie between 0 and 1, not {clean_fraction:g}")
    if clean_fraction and sigma_n is None:
        raise UserError("--clean-fraction needs --sigma-n; otherwise write clean_fraction in the corruption")
    if settings and recipe is None:
        raise UserError("--set needs --recipe; otherwise write every key in --corruption")
    if recipe is not None:
        return load_recipe(recipe, settings or ()).build_corruption()
    if corruption is not None:
        return corruption_from(corruption_of(corruption))
    assert sigma_n is not None
    if clean_fraction:
        return AdditiveNoise(sigma_n=(0.0, sigma_n), weights=(clean_fraction, 1 - clean_fraction))
    return AdditiveNoise(sigma_n=sigma_n)


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="folder, archive or file of images or k-space, in a supported format", callback=check_there
        ),
    ],
    out_path: Annotated[Path, typer.Option("--out", metavar="STORE", help="store to write")],
    sigma_n: Annotated[
        str | None,
        typer.Option(
            help="noise level in the units of the files: a number, a file with one per image, auto, or auto-per-sample"
        ),
    ] = None,
    sigma_unit: Annotated[str | None, typer.Option(metavar="data|normalised")] = None,
    corruption: CorruptionOption = None,
    masks: Annotated[str | None, typer.Option(metavar="PATH|nan")] = None,
    plugins: Plugins = None,
    image_size: Annotated[str | None, typer.Option(metavar="H,W")] = None,
    range: Annotated[str | None, typer.Option(metavar="LOW,HIGH")] = None,
    resize: Annotated[int | None, typer.Option()] = None,
    layout: Annotated[str | None, typer.Option(metavar="auto|NHW|NHWC|NCHW")] = None,
    pairing: Annotated[str | None, typer.Option(metavar="name|position")] = None,
    limit: Annotated[int | None, typer.Option()] = None,
    axes: Annotated[str | None, typer.Option(metavar="NAMES")] = None,
    shift: Annotated[str | None, typer.Option(metavar="WHAT")] = None,
    crop: Annotated[str | None, typer.Option(metavar="H,W")] = None,
    coils: Annotated[int | None, typer.Option()] = None,
    maps: Annotated[str | None, typer.Option(metavar="PATH")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="k-space: store of fully sampled images to write, if --corruption undersamples the k-space",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="k-space: seed of the dropped lines; 0 by default")] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="k-space: warn if coil maps leave more than this share of the calibration data unexplained, 0.2"
        ),
    ] = None,
) -> None:
    """Write real measurements, images or k-space, to a store; their noise is stated, or estimated (auto)."""
    from ..acquisition import measurements_of, write
    from ..core.progress import progress_bar
    from ..io import is_kspace

    description = None if corruption is None else corruption_of(corruption)
    stated = {
        "sigma_unit": sigma_unit, "masks": masks, "image_size": image_size, "range": range, "resize": resize,
        "layout": layout, "pairing": pairing, "limit": limit, "axes": axes, "shift": shift, "crop": crop,
        "coils": coils, "maps": maps,
    }  # fmt: skip
    kspace = is_kspace(source)
    data = _data_of(source, kspace, stated, {"full": reference, "seed": seed, "tolerance": tolerance})
    if tolerance is not None and not 0 <= tolerance <= 1:
        raise UserError(f"--tolerance must lie between 0 and 1, not {tolerance:g}")
    level = None if kspace and sigma_n is None else level_of(sigma_n, description)
    residuals = Residuals()
    acquisition = measurements_of(data, description, level, seed or 0, residuals)  # type: ignore[arg-type]
    with progress_bar("import", acquisition.total, unit=acquisition.unit) as advance:
        store = write(acquisition, out_path, reference, advance)
    say(f"{out_path}: {residuals.summary(store) if kspace else _summary(store)}")
    residuals.warn(TOLERANCE if tolerance is None else tolerance)
    if resize is not None:
        warn("note: resizing averages noise; --sigma-n must be the noise level of the resized images")


def _data_of(source: Path, kspace: bool, stated: dict[str, Any], others: dict[str, Any]) -> DataSettings:
    """The options of `import` as settings. Raises UserError, naming the option, for one that is wrong or no use."""
    from pydantic import ValidationError

    from ..acquisition.settings import DataSettings, check_stated
    from ..core.settings import explain

    words = {key: f"--{key.replace('_', '-')}" for key, value in (stated | others).items() if value is not None}
    check_stated(words | ({"full": "--reference"} if "full" in words else {}), str(source), kspace)
    where = str(source) if source.is_absolute() else f"./{source}"  # files only: `digits` is a folder here
    given = {key: value for key, value in stated.items() if value is not None}
    try:
        return DataSettings.model_validate({"source": where, "content": "measurements", **given})
    except ValidationError as error:
        key, _, problem = explain(error, DataSettings, inside="").partition(": ")
        raise UserError(f"--{key.replace('_', '-')}: {problem}") from None


def _summary(store: Store) -> str:
    """What was imported of images, in one line."""
    from ..corruption import has_photon_noise

    manifest = store.manifest
    summary, scale = manifest.sigma_n, manifest.normalisation.scale
    text = f"{len(store):,} measurements of shape {list(store.shape)}"
    if store.shape != store.image_shape:
        text += f" of images {list(store.image_shape)}"
    first = next(store.iterate(max(1, min(1024, (1 << 20) // math.prod(store.shape)))))
    missing = first.operator.missing(first.operator.to_domain(first.y))
    if missing is not None:
        text += f", {float(missing.float().mean()):.1%} of their pixels missing"
    if has_photon_noise(manifest.corruption or {}):
        return f"{text}; photon noise is sigma_n {summary.mean:.4g} of the stabilised values in the store"
    how = " (estimated)" if summary.estimated else ""
    if summary.estimate is not None:
        how = " (estimated, 95% interval {:.4g} to {:.4g})".format(*(end * scale for end in summary.estimate.interval))
    return (
        f"{text}; sigma_n {summary.mean * scale:.4g}{how} in the units of the files is {summary.mean:.4g} in the "
        "store, where images span [-1, 1]"
    )


def estimate_noise(
    path: Annotated[
        Path,
        typer.Argument(help="a store, or a folder, archive, .npy or .npz of measurements", callback=check_there),
    ],
    model: Annotated[
        str, typer.Option(help="gaussian (white noise), or poisson-gaussian (photon counts)")
    ] = "gaussian",
    zero: Annotated[
        float | None, typer.Option(help="value without light, of poisson-gaussian: a camera's pedestal; 0 by default")
    ] = None,
    out_path: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="write .json, or .npy of each image's level")
    ] = None,
    layout: Annotated[str, typer.Option(help="axes of arrays: auto, NHW, NHWC or NCHW")] = "auto",
) -> None:
    """Estimate the noise of measurements, with an interval, from the measurements alone."""
    from ..runs.noise_report import estimate

    show(estimate(path, model, out_path, layout, zero))
