"""Options that several commands share, and how their words are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .errors import UserError

Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a key of the recipe")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="directory of a run")]


def overrides_of(settings: list[str] | None, device: str | None, precision: str | None) -> list[str]:
    """`--set`, `--device` and `--precision` as `key=value`."""
    shorthand = {"execution.device": device, "execution.precision": precision}
    return [*(settings or []), *(f"{key}={value}" for key, value in shorthand.items() if value is not None)]


def epilog(example: str) -> str:
    """The example at the end of a command's help."""
    return f"Example:  {example}"


def level_of(text: str | None) -> float | Path | str:
    """`--sigma-n`: a number, a file of numbers, or a word. Raises UserError for anything else."""
    if text is None:
        raise UserError(
            "--sigma-n is missing: state the standard deviation of the noise, a number or a file of them, or auto"
        )
    if text in ("auto", "auto-per-sample"):
        return text
    try:
        return float(text)
    except ValueError:
        if Path(text).is_file():
            return Path(text)
        raise UserError(
            f"--sigma-n {text!r} is neither a number nor a file with one number per image, nor auto or auto-per-sample"
        ) from None


def range_of(text: str | None) -> tuple[float, float] | None:
    """`--range LOW,HIGH`. Raises UserError for anything else."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--range {text!r}: write it as LOW,HIGH, e.g. --range 0,4095") from None
    return low, high


def numbers_of(text: str) -> list[float]:
    """`--sigma-rel A,B,...`. Raises UserError for anything else."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--sigma-rel {text!r}: write it as numbers with commas, e.g. --sigma-rel .05,.1") from None
