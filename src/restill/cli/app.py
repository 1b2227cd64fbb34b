"""The command line. Every command is a thin call of the library; mistakes end in one line and exit code 2."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import NonFiniteError, UserCodeError, UserError
from .data import corrupt, estimate_noise, import_
from .options import (
    Device,
    OperatorFile,
    Precision,
    RunPath,
    Set,
    epilog,
    numbers_of,
    out,
    overrides_of,
    say,
)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="One-step generators of clean images, learned from corrupted measurements only.",
)


@app.command(epilog=epilog("restill run digits-noise --out demo"))
def run(
    recipe: Annotated[str, typer.Argument(metavar="NAME|FILE.yaml", help="a shipped recipe or your own")],
    out_path: Annotated[Path, typer.Option("--out", metavar="RUN", help="directory of the run")],
    settings: Set = None,
    operator: OperatorFile = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Everything from data to report; the same command continues an interrupted run."""
    from ..runs import run as run_experiment

    results, verdict = run_experiment(recipe, out_path, overrides_of(settings, device, precision))
    _show(results, verdict, out_path)


app.command(epilog=epilog("restill corrupt images/ --sigma-n 0.2 --out store --reference clean"))(corrupt)
app.command("import", epilog=epilog("restill import scans/ --sigma-n 12.5 --out store"))(import_)
app.command("estimate-noise", epilog=epilog("restill estimate-noise scans/"))(estimate_noise)


@app.command(epilog=epilog("restill info demo"))
def info(
    path: Annotated[
        Path, typer.Argument(metavar="PATH|RECIPE", help="a store, a run, a network folder, or a recipe or its name")
    ],
    settings: Set = None,
    operator: OperatorFile = None,
) -> None:
    """What a store, a run or a checkpoint holds, or what a recipe asks for and takes."""
    from ..runs.describe import describe

    out.print(describe(path, settings or []))


@app.command(epilog=epilog("restill pretrain store --recipe tiny-noise --out run"))
def pretrain(
    store: Annotated[Path | None, typer.Argument(metavar="STORE", help="measurements; omit to continue --out")] = None,
    out_path: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="directory of the run")] = None,
    recipe: Annotated[str | None, typer.Option(help="recipe for network and training")] = None,
    settings: Set = None,
    operator: OperatorFile = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Phase I alone: train the teacher on a store; the same command continues it."""
    from ..runs import amended, baselines, prepare_store, recipe_on_store, working_on
    from ..runs import pretrain as stage

    if out_path is None:
        raise UserError("--out is missing: the directory of the run")
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


@app.command(epilog=epilog("restill distill run --set student.loss=dmd"))
def distill(
    path: RunPath,
    settings: Set = None,
    operator: OperatorFile = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Phase II alone: distil the run's teacher into a one-step generator; the same command continues it."""
    from ..runs import amended, working_on
    from ..runs import distill as stage

    with working_on(path, amended(path, overrides_of(settings, device, precision))) as current:
        stage(current)
    say(f"{current.stage('student')}: student; next `restill evaluate {path}`")


@app.command(epilog=epilog("restill sample demo -n 64 --seed 0 --out samples"))
def sample(
    path: RunPath,
    out_path: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder for the images")],
    n: Annotated[int, typer.Option("-n", help="number of images")] = 64,
    seed: Annotated[int, typer.Option(help="image k of a seed is always the same")] = 0,
    sampler: Annotated[str, typer.Option(help="student, teacher-full, teacher-truncated or l1-edm")] = "student",
    operator: OperatorFile = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Draw images: PNG, .npy too for data that is not 8-bit, and a grid."""
    from ..runs.samples import sample_run

    sample_run(path, out_path, n, seed, sampler, overrides_of(None, device, precision))
    say(f"{out_path}: {n:,} images; {out_path / 'grid.png'} shows them together")


@app.command(epilog=epilog("restill evaluate demo --reference clean"))
def evaluate(
    path: RunPath,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="CLEAN_STORE|NPZ", help="clean images, or statistics of them; the run's own by default"),
    ] = None,
    features: Annotated[
        list[str] | None, typer.Option(metavar="SPACE", help="also in inception:FILE or dino:FOLDER; may be repeated")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(metavar="STORE", help="measurements that training never saw, for the checks")
    ] = None,
    write_reference: Annotated[
        Path | None, typer.Option(metavar="NPZ", help="only write the statistics of the clean images, for others")
    ] = None,
    settings: Set = None,
    operator: OperatorFile = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Measure teacher and student, against clean images where there are some, else through the corruption.

    `torchrun --nproc-per-node N -m restill evaluate RUN` shares the work between N processes.
    """
    from ..runs.evaluation import evaluation_of

    overrides = overrides_of(settings, device, precision)
    shown = evaluation_of(path, reference, overrides, features or [], write_reference, held_out)
    if shown is not None:
        results, verdict, checks = shown
        _show(results, verdict, None)
        for check in checks:
            if check.status == "warning" and check.subject in (None, "student"):
                say(f"Warning ({check.name}): {check.sentence}")


@app.command(epilog=epilog("restill select demo --reference clean --keep"))
def select(
    path: RunPath,
    reference: Annotated[
        Path | None, typer.Option(metavar="CLEAN_STORE", help="also show distances to clean images; they never choose")
    ] = None,
    sigma_rel: Annotated[
        str, typer.Option(metavar="A,B,...", help="lengths of the average of the weights, relative to the run's")
    ] = "0.03,0.05,0.1,0.15,0.2",
    keep: Annotated[bool, typer.Option("--keep", help="make the best the run's student")] = False,
    operator: OperatorFile = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Choose among all snapshots of the student and lengths of average by the proximal distance: no clean image."""
    from ..report.selection_report import selection_table
    from ..runs import amended, working_on
    from ..runs.choosing import select as stage

    lengths = numbers_of(sigma_rel)
    with working_on(path, amended(path, overrides_of(None, device, precision))) as current:
        choice = stage(current, reference, lengths, keep)
    out.print(selection_table(choice))
    for sentence in choice.sentences:
        say(sentence)
    if keep:
        say(f"{current.stage('student')}: the chosen student; next `restill evaluate {path}`")
    else:
        say(f"{current.stage('student') / 'selection.png'}; --keep makes the chosen one the run's student")


@app.command(epilog=epilog("restill report demo"))
def report(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="directory of a run, or of several to compare")],
    out_path: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="page for several runs; comparison.html by default")
    ] = None,
    operator: OperatorFile = None,
) -> None:
    """Write report.html and the sample grids of an evaluated run; of several runs, one page side by side."""
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


def _show(results, verdict, run_path: Path | None) -> None:  # type: ignore[no-untyped-def]
    from ..report import summary

    out.print()
    out.print(summary(results, verdict))
    if run_path is not None:
        say(f"\n{run_path / 'report.html'}")


def main() -> None:
    """Entry point: exit code 0, 2 for the user's mistake, 1 for a failure, 130 after Ctrl-C."""
    sys.exit(_run_app(sys.argv[1:]))


def _run_app(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments or ["--help"], prog_name="restill", standalone_mode=False)
        if code == 130:  # some versions of typer turn Ctrl-C into this, others into one of the exceptions below
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted; the same command continues from the last checkpoint", 130)
    except UserError as error:
        if isinstance(error, UserCodeError) and error.__cause__ is not None:
            sys.stderr.write("".join(_users_traceback(error.__cause__)))
        return _fail(str(error), 2, error)
    except NonFiniteError as error:
        return _fail(str(error), 1, error)
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is not None:  # a mistake in options or arguments, as typer found it
            where = getattr(getattr(error, "ctx", None), "command_path", "restill")
            return _fail(f"{message()} (see {where} --help)", 2, error)
        return _fail(f"{type(error).__name__}: {error} (RESTILL_DEBUG=1 shows where)", 1, error)


def _users_traceback(error: BaseException) -> list[str]:
    """Where a user's own code failed, from its first line on: what called it is of no interest."""
    ours, frame = f"{Path(__file__).parents[1]}{os.sep}", error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith((ours, "<frozen importlib")):
        frame = frame.tb_next
    return traceback.format_exception(type(error), error, frame)


def _fail(message: str, code: int, error: BaseException | None = None) -> int:
    if error is not None and os.environ.get("RESTILL_DEBUG") == "1":
        traceback.print_exception(error)
    line = " ".join(message.split())
    sys.stderr.write(f"restill: {line}\n")
    return code
