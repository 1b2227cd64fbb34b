"""The command line. Every command is a thin call of the library; mistakes end in one line and exit code 2."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from ..core import interruption
from ..core.errors import DataWarning, NonFiniteError, UserCodeError, UserError
from ..core.terminal import one_line
from .data import DescribedBySettings, corrupt, estimate_noise, import_
from .inspection import evaluate, info, report, sample
from .options import warn
from .stages import distill, pretrain, refine, run, select

_COMMANDS: dict[str, tuple[Callable[..., None], str]] = {  # with an example of each
    "run": (run, "restill run digits-noise --out demo"),
    "corrupt": (corrupt, "restill corrupt images/ --sigma-n 0.2 --out store --reference clean"),
    "import": (import_, "restill import scans/ --sigma-n 12.5 --out store"),
    "estimate-noise": (estimate_noise, "restill estimate-noise scans/"),
    "info": (info, "restill info demo"),
    "pretrain": (pretrain, "restill pretrain store --recipe tiny-noise --out run"),
    "refine": (refine, "restill refine run --set refine.rounds=3"),
    "distill": (distill, "restill distill run --set student.loss=dmd"),
    "sample": (sample, "restill sample demo -n 64 --seed 0 --out samples"),
    "evaluate": (evaluate, "restill evaluate demo --reference clean"),
    "select": (select, "restill select demo --reference clean --keep"),
    "report": (report, "restill report demo"),
}

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Learn one-step generators of clean images from corrupted measurements.",
)
for _name, (_command, _example) in _COMMANDS.items():
    app.command(_name, cls=DescribedBySettings, epilog=f"Example:  {_example}")(_command)


def _run_app(arguments: list[str]) -> int:
    """Run a command; its exit code, as `main` of entry.py has it."""
    command = typer.main.get_command(app)
    try:
        with _data_warnings():
            code = command.main(args=arguments or ["--help"], prog_name="restill", standalone_mode=False)
        if code == 130:  # some versions of typer turn Ctrl-C into this, others into one of the exceptions below
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except UserError as error:
        if isinstance(error, UserCodeError) and error.__cause__ is not None:
            sys.stderr.write("".join(_users_traceback(error.__cause__)))
        return _fail(str(error), 2, error)
    except NonFiniteError as error:
        return _fail(str(error), 1, error)
    except Exception as error:
        if interruption.came():  # Ctrl-C in the middle of an import comes out as anything
            return _interrupted()
        from ..core.plugins import file_in

        message = getattr(error, "format_message", None)
        if message is not None:  # a mistake in options or arguments, as typer found it
            where = getattr(getattr(error, "ctx", None), "command_path", "restill")
            return _fail(f"{message()} (see {where} --help)", 2, error)
        if (file := file_in(error)) is not None:
            sys.stderr.write("".join(_users_traceback(error)))
            return _fail(f"{file}: raises {type(error).__name__}: {error}", 2, error)
        return _fail(*_of_the_machine(error), error)


def _interrupted() -> int:
    return _fail("interrupted; the same command continues from the last checkpoint", interruption.CODE)


@contextmanager
def _data_warnings() -> Iterator[None]:
    """Every `DataWarning` is one line on stderr, each time; other warnings are shown as Python shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        others = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, DataWarning):
                warn(one_line(f"warning: {message}"))
            else:
                others(message, category, *where, **more)

        warnings.showwarning = shown
        yield


def _of_the_machine(error: Exception) -> tuple[str, int]:
    """Message and exit code of what no command expected: the user can mend memory and files, but no bug of restill."""
    memory = isinstance(error, MemoryError) or "allocate" in str(error)  # torch raises a RuntimeError that says it
    if memory:
        return f"the memory is too small for what was asked ({error or type(error).__name__})", 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 2
    return f"{type(error).__name__}: {error} (RESTILL_DEBUG=1 shows where)", 1


def _users_traceback(error: BaseException) -> list[str]:
    """The traceback of a user's own code, without the frames of restill that called it."""
    import traceback

    ours, frame = f"{Path(__file__).parents[1]}{os.sep}", error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith((ours, "<frozen importlib")):
        frame = frame.tb_next
    return traceback.format_exception(type(error), error, frame)


def _fail(message: str, code: int, error: BaseException | None = None) -> int:
    if error is not None and os.environ.get("RESTILL_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    sys.stderr.write(f"{one_line(f'restill: {message}')}\n")
    return code
