"""The commands that show results: contents, samples, evaluations and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UserError
from ..core.paths import check_known, check_run
from .options import Device, Plugins, Precision, RunPath, Set, overrides_of, say, show, show_results


def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH|RECIPE",
            help="a store, a run, a network folder, or a recipe or its name",
            callback=check_known,
        ),
    ],
    keys: Annotated[
        bool, typer.Option("--keys", help="list every key of a recipe, or of a run's recipe, with unit and description")
    ] = False,
    settings: Set = None,
    plugins: Plugins = None,
) -> None:
    """Show what a store, a run or a checkpoint holds, or the settings and the cost of a recipe."""
    from ..runs.describe import describe

    show(describe(path, settings or [], keys))


def sample(
    path: RunPath,
    out_path: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder for the images")],
    n: Annotated[int, typer.Option("-n", help="number of images")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="seed; image k is always the same for one seed")] = 0,
    sampler: Annotated[str, typer.Option(help="student, teacher-full, teacher-truncated or l1-edm")] = "student",
    of_class: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME|INDEX",
            help="only images of this class; by default classes are as frequent as in the data",
        ),
    ] = None,
    plugins: Plugins = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Draw images; write them as PNG (and as .npy unless the data is 8-bit) with a grid."""
    from ..runs.draw_images import sample_run

    classes = sample_run(path, out_path, n, seed, sampler, overrides_of(None, device, precision), of_class)
    say(f"{out_path}: {n:,} images{f', {classes}' if classes else ''}; {out_path / 'grid.png'} shows them together")


def evaluate(
    path: RunPath,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="CLEAN_STORE|NPZ", help="clean images or their statistics; the run's own reference by default"
        ),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(metavar="SPACE", help="additional features: inception:FILE or dino:FOLDER; may be repeated"),
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(metavar="STORE", help="measurements that were not used in training, for the checks")
    ] = None,
    write_reference: Annotated[
        Path | None,
        typer.Option(metavar="NPZ", help="only write the statistics of the clean images, without an evaluation"),
    ] = None,
    settings: Set = None,
    plugins: Plugins = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Evaluate teacher and student against clean images, or against the measurements if there are none.

    `torchrun --nproc-per-node N -m restill evaluate RUN` shares the work between N processes.
    """
    from ..runs.evaluation import evaluation_of

    overrides = overrides_of(settings, device, precision)
    shown = evaluation_of(path, reference, overrides, features or [], write_reference, held_out)
    if shown is not None:
        results, verdict, checks = shown
        show_results(results, verdict)
        for check in checks:
            if check.status == "warning" and check.subject in (None, "student"):
                say(f"Warning ({check.name}): {check.sentence}")


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="directory of a run, or of several runs to compare",
            callback=lambda paths: [check_run(path) for path in paths],
        ),
    ],
    out_path: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="page for several runs; comparison.html by default")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Write report.html and the sample grids of an evaluated run, or one page that compares several runs."""
    from ..runs import amended, working_on
    from ..runs import report as stage
    from ..runs.reporting import compare_runs

    if len(paths) > 1:
        page = out_path or Path("comparison.html")
        compare_runs(paths, page)
    elif out_path is not None:
        raise UserError("--out is for several runs; the report of one run is RUN/report.html")
    else:
        with working_on(paths[0], amended(paths[0])) as current:
            stage(current)
        page = current.report
    say(str(page))
