"""The commands that make stores of measurements and look at their noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import UserError
from .kspace import check_options, import_kspace_command
from .options import (
    Law,
    OperatorFile,
    Set,
    law_of,
    level_of,
    range_of,
    say,
    show,
    size_of,
    warn,
)

if TYPE_CHECKING:
    from ..corruption import Corruption
    from ..store import Store


def corrupt(
    source: Annotated[str, typer.Argument(help="folder, archive or array file of clean images, or `digits`")],
    out_path: Annotated[Path, typer.Option("--out", metavar="STORE", help="store of measurements to write")],
    reference: Annotated[Path | None, typer.Option(help="store of the clean images to write, for evaluate")] = None,
    sigma_n: Annotated[float | None, typer.Option(help="noise alone, of this level, where images span [-1, 1]")] = None,
    clean_fraction: Annotated[float, typer.Option(help="share of images left without noise, 0 to 1")] = 0.0,
    corruption: Law = None,
    recipe: Annotated[str | None, typer.Option(help="take the corruption from a recipe instead")] = None,
    settings: Set = None,
    operator: OperatorFile = None,
    resize: Annotated[int | None, typer.Option(help="crop to the centre square and resize to this side")] = None,
    seed: Annotated[int, typer.Option(help="of operators and noise")] = 0,
) -> None:
    """Make a benchmark: corrupt clean images once, into a store, and keep the clean ones apart."""
    from ..acquisition import corrupt_images
    from ..core.progress import progress_bar
    from ..io import images_named

    law = _law(sigma_n, clean_fraction, corruption, recipe, settings)
    images = images_named(source, resize)
    with progress_bar("corrupt", len(images)) as advance:
        store = corrupt_images(images, law, out_path, reference, seed, advance)
    say(f"{out_path}: {len(store):,} measurements of shape {list(store.shape)}")


def _law(
    sigma_n: float | None,
    clean_fraction: float,
    corruption: str | None,
    recipe: str | None,
    settings: list[str] | None,
) -> Corruption:
    """The law that `corrupt` is told in one of three ways. Raises UserError for none or several of them."""
    from ..corruption import AdditiveNoise, corruption_from
    from ..runs.recipe_files import load_recipe

    if [sigma_n, corruption, recipe].count(None) != 2:
        raise UserError("say how to corrupt: either --sigma-n or --corruption or --recipe, and noise within it")
    if not 0 <= clean_fraction <= 1:
        raise UserError(f"--clean-fraction must lie between 0 and 1, not {clean_fraction:g}")
    if clean_fraction and sigma_n is None:
        raise UserError("--clean-fraction goes with --sigma-n; elsewhere write clean_fraction into the corruption")
    if settings and recipe is None:
        raise UserError("--set goes with --recipe; write everything else into --corruption")
    if recipe is not None:
        return load_recipe(recipe, settings or ()).law()
    if corruption is not None:
        return corruption_from(law_of(corruption))
    assert sigma_n is not None
    if clean_fraction:
        return AdditiveNoise(sigma_n=(0.0, sigma_n), weights=(clean_fraction, 1 - clean_fraction))
    return AdditiveNoise(sigma_n=sigma_n)


def import_(
    source: Annotated[
        Path, typer.Argument(help="folder, archive, .npy or .npz of images; .h5, .npy or .npz of k-space")
    ],
    out_path: Annotated[Path, typer.Option("--out", metavar="STORE", help="store to write")],
    sigma_n: Annotated[
        str | None,
        typer.Option(
            help="noise level in the units of the files: a number, a file with one per image, auto, or auto-per-sample"
        ),
    ] = None,
    sigma_unit: Annotated[
        str | None, typer.Option(help="data (default), or normalised where sigma_n is for values in [-1, 1]")
    ] = None,
    corruption: Law = None,
    masks: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|nan", help="0 where missing; of pixels one per image or one for all, of k-space one"
        ),
    ] = None,
    operator: OperatorFile = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="H,W", help="of the images, where a function measured another size")
    ] = None,
    value_range: Annotated[
        str | None, typer.Option("--range", metavar="LOW,HIGH", help="values that become -1 and 1; found by itself")
    ] = None,
    resize: Annotated[int | None, typer.Option(help="crop to the centre square and resize to this side")] = None,
    layout: Annotated[str | None, typer.Option(help="axes of arrays: auto (default), NHW, NHWC or NCHW")] = None,
    crop: Annotated[str | None, typer.Option(metavar="H,W", help="k-space: size of the images")] = None,
    coils: Annotated[int | None, typer.Option(help="k-space: number of virtual coils")] = None,
    maps: Annotated[Path | None, typer.Option(help="k-space: coil sensitivities; estimated if not given")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="k-space undersampled by --corruption: store of full images"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="k-space: of the lines that are dropped; 0 by default")] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="k-space: share of calibration data left by coil maps that is warned of, 0.2")
    ] = None,
) -> None:
    """Take real measurements, images or k-space, into a store, with noise that is stated or estimated (auto)."""
    from ..io import is_kspace

    law = None if corruption is None else law_of(corruption)
    of_images: dict[str, Any] = {"--sigma-unit": sigma_unit, "--operator": operator, "--image-size": image_size}
    of_images |= {"--range": value_range, "--resize": resize, "--layout": layout}
    of_kspace: dict[str, Any] = {"--crop": crop, "--coils": coils, "--maps": maps, "--reference": reference}
    of_kspace |= {"--seed": seed, "--tolerance": tolerance}
    kspace = is_kspace(source)
    check_options(kspace, source, of_kspace, of_images)
    if kspace:
        import_kspace_command(
            source,
            out_path,
            sigma_n=sigma_n,
            law=law,
            mask=masks,
            maps=maps,
            crop=crop,
            coils=coils,
            reference=reference,
            seed=seed,
            tolerance=tolerance,
        )
        return
    layout, sigma_unit = layout or "auto", sigma_unit or "data"
    _import_images(source, out_path, sigma_n, sigma_unit, law, masks, image_size, value_range, resize, layout)


def _import_images(
    source: Path,
    out_path: Path,
    sigma_n: str | None,
    sigma_unit: str,
    law: dict[str, Any] | None,
    masks: str | None,
    image_size: str | None,
    value_range: str | None,
    resize: int | None,
    layout: str,
) -> None:
    """`restill import` of images."""
    from ..acquisition import import_measurements, masks_from
    from ..core.progress import progress_bar
    from ..io import open_images

    if layout not in ("auto", "NHW", "NHWC", "NCHW"):
        raise UserError(f"--layout must be auto, NHW, NHWC or NCHW, not {layout!r}")
    if sigma_unit not in ("data", "normalised"):
        raise UserError(f"--sigma-unit must be data or normalised, not {sigma_unit!r}")
    level, limits, size = level_of(sigma_n, law), range_of(value_range), size_of(image_size)
    images, known = open_images(source, resize, layout), masks_from(masks, resize)  # type: ignore[arg-type]
    passes = 1 + 2 * (level in ("auto", "auto-per-sample")) + (known is not None)
    with progress_bar("import", passes * len(images)) as advance:
        store = import_measurements(
            images,
            out_path,
            level,  # type: ignore[arg-type]
            sigma_unit,  # type: ignore[arg-type]
            limits,
            advance,
            corruption=law,
            masks=known,
            image_size=size,
        )
    say(_summary(out_path, store))
    if resize is not None:
        warn("note: resizing averages noise; --sigma-n must be that of the resized images")


def _summary(out_path: Path, store: Store) -> str:
    """What was imported, in one line."""
    from ..corruption import has_photon_noise

    manifest = store.manifest
    summary, scale = manifest.sigma_n, manifest.normalisation.scale
    text = f"{out_path}: {len(store):,} measurements of shape {list(store.shape)}"
    if store.shape != store.image_shape:
        text += f" of images {list(store.image_shape)}"
    first = next(store.iterate(1024)).operator
    missing = None if first is None else first.missing()
    if missing is not None:
        text += f", {float(missing.float().mean()):.1%} of their pixels missing"
    if has_photon_noise(manifest.corruption or {}):
        return f"{text}; photon noise is sigma_n {summary.mean:.4g} of the stabilised values in the store"
    how = " (estimated)" if summary.estimated else ""
    return (
        f"{text}; sigma_n {summary.mean * scale:.4g}{how} in the units of the files is {summary.mean:.4g} in the "
        "store, where images span [-1, 1]"
    )


def estimate_noise(
    path: Annotated[Path, typer.Argument(help="a store, or a folder, archive, .npy or .npz of measurements")],
    model: Annotated[
        str, typer.Option(help="gaussian (white), or poisson-gaussian where photons are counted and 0 is no light")
    ] = "gaussian",
    out_path: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="write .json, or .npy of each image's level")
    ] = None,
    layout: Annotated[str, typer.Option(help="axes of arrays: auto, NHW, NHWC or NCHW")] = "auto",
) -> None:
    """Estimate the noise of measurements, with an interval, from nothing but the measurements."""
    from ..runs.noise_report import estimate

    show(estimate(path, model, out_path, layout))
