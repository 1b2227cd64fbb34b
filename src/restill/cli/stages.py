"""The commands that train: a whole run, each of its two phases, and the choice of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UserError
from ..core.paths import check_recipe, check_run, check_store
from .options import Device, Plugins, Precision, RunPath, Set, numbers_of, overrides_of, say, show, show_results


def run(
    recipe: Annotated[
        str, typer.Argument(metavar="NAME|FILE.yaml", help="a shipped recipe or your own", callback=check_recipe)
    ],
    out_path: Annotated[Path, typer.Option("--out", metavar="RUN", help="directory of the run")],
    settings: Set = None,
    plugins: Plugins = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Do everything from data to report; the same command continues an interrupted run."""
    from ..runs import run as run_experiment

    results, verdict = run_experiment(recipe, out_path, overrides_of(settings, device, precision))
    show_results(results, verdict)
    say(f"\n{out_path / 'report.html'}")


def pretrain(
    store: Annotated[
        Path | None,
        typer.Argument(
            metavar="STORE",
            help="measurements; omit to continue --out",
            callback=lambda path: path and check_store(path),
        ),
    ] = None,
    out_path: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="directory of the run")] = None,
    recipe: Annotated[str | None, typer.Option(help="recipe for network and training")] = None,
    settings: Set = None,
    plugins: Plugins = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Phase I only: train the teacher on a store; the same command continues it."""
    if out_path is None:
        raise UserError("--out is missing: the directory of the run")
    if recipe is None and store is None:
        check_run(out_path)
    from ..runs import amended, baselines, prepare_store, recipe_on_store, working_on
    from ..runs import pretrain as stage

    overrides = overrides_of(settings, device, precision)
    if recipe is None and store is None:
        checked = amended(out_path, overrides)
    elif recipe is None or store is None:
        raise UserError("a new run needs both STORE and --recipe; leave both out to continue --out")
    else:
        checked = recipe_on_store(recipe, store, overrides)
    with working_on(out_path, checked) as current:
        prepare_store(current)
        stage(current)
        baselines(current)
    say(f"{current.stage('teacher')}: teacher; next `restill distill {out_path}`")


def refine(
    path: RunPath,
    settings: Set = None,
    plugins: Plugins = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """After phase I: teach the teacher the levels below the noise, in rounds; the same command continues it."""
    from ..runs import amended, working_on
    from ..runs import refine as stage

    with working_on(path, amended(path, overrides_of(settings, device, precision))) as current:
        if not current.recipe.refine.rounds:
            raise UserError(f"{path}: refine.rounds is 0; set the number of rounds with --set refine.rounds=3")
        stage(current)
    say(f"{current.stage('refined')}: the refined teacher; next `restill evaluate {path}`")


def distill(
    path: RunPath,
    settings: Set = None,
    plugins: Plugins = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Phase II only: distil the run's teacher into a one-step generator; the same command continues it."""
    from ..runs import amended, working_on
    from ..runs import distill as stage

    with working_on(path, amended(path, overrides_of(settings, device, precision))) as current:
        stage(current)
    say(f"{current.stage('student')}: student; next `restill evaluate {path}`")


def select(
    path: RunPath,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="CLEAN_STORE", help="also show distances to clean images; they do not affect the choice"),
    ] = None,
    sigma_rel: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", help="lengths of the average of the weights, relative to the length of the run"
        ),
    ] = "0.03,0.05,0.1,0.15,0.2",
    keep: Annotated[bool, typer.Option("--keep", help="make the best checkpoint the run's student")] = False,
    plugins: Plugins = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Choose the best snapshot of the student and length of average by the proximal distance, without clean images."""
    from ..report.selection_report import selection_table
    from ..runs import amended, working_on
    from ..runs.selecting import select as stage

    lengths = numbers_of(sigma_rel)
    with working_on(path, amended(path, overrides_of(None, device, precision))) as current:
        choice = stage(current, reference, lengths, keep)
    show(selection_table(choice))
    for sentence in choice.sentences:
        say(sentence)
    if keep:
        say(f"{current.stage('student')}: the chosen student; next `restill evaluate {path}`")
    else:
        say(f"{current.stage('student') / 'selection.png'}; --keep makes the chosen checkpoint the run's student")
