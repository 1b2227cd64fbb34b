"""Options that several commands share, and the functions that parse them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import UserError
from ..core.paths import check_run
from ..core.terminal import Shown, console, visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..metrics import Result
    from ..report import Verdict


def show(what: RenderableType = "") -> None:
    """Print a table, or text with highlighted numbers, on stdout."""
    console().print(Shown(what))


def show_results(results: Sequence[Result], verdict: Verdict) -> None:
    """Print what an evaluation found, as a table and in words."""
    from ..report import summary

    show()
    show(summary(results, verdict))


def say(text: str) -> None:
    """Print one line, however long, on stdout: paths in it can be copied."""
    console().print(visible(text), highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print one line, however long, on stderr."""
    console(stderr=True).print(visible(text), style="yellow", highlight=False, soft_wrap=True)


def _load_plugins(words: list[str] | None) -> list[str] | None:
    """Run the user's files as soon as they are named, so that every command knows what they define."""
    for word in words or ():
        from ..core.plugins import load_installed
        from ..corruption import load_operator

        if Path(word).is_file() or word.endswith(".py"):
            load_operator(word)
        elif not load_installed(word):
            raise UserError(f"--plugin {word}: no such file or installed plug-in")
    return words


Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a key of the recipe")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16")]
CorruptionOption = Annotated[
    str | None,
    typer.Option(metavar="YAML|FILE", help='corruption of the images, e.g. "{kind: mask, p: 0.6, sigma_n: 0.1}"'),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        "--operator",
        metavar="FILE.py|NAME",
        callback=_load_plugins,
        help="your file with classes of your own kinds, or an operator (apply(x) and adjoint(y)); may be repeated",
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="directory of a run", callback=check_run)]


def overrides_of(settings: list[str] | None, device: str | None, precision: str | None) -> list[str]:
    """`--set`, `--device` and `--precision` as `key=value`."""
    shorthand = {"execution.device": device, "execution.precision": precision}
    return [*(settings or []), *(f"{key}={value}" for key, value in shorthand.items() if value is not None)]


def corruption_of(text: str) -> dict[str, Any]:
    """`--corruption`: a mapping in YAML, a kind alone, or a file with a mapping. Raises UserError for anything else."""
    import yaml

    from ..core.reading import read_text
    from ..core.yaml_data import parse_yaml

    where, content = "--corruption", text
    if text.endswith((".yaml", ".yml")):
        where, content = text, read_text(Path(text))
    try:
        corruption = parse_yaml(content)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: is not YAML ({' '.join(str(error).split())})") from error
    if isinstance(corruption, str):
        corruption = {"kind": corruption}
    if not isinstance(corruption, dict) or "kind" not in corruption:
        raise UserError(f'{where}: must state the kind of corruption, e.g. "{{kind: mask, p: 0.6}}"')
    return corruption


def level_of(text: str | None, corruption: Mapping[str, Any] | None = None) -> float | Path | str | None:
    """`--sigma-n`: a number, a file of numbers, or a word; None where the corruption states it.

    Raises:
        UserError: anything else.
    """
    if text is None:
        from ..corruption import has_photon_noise

        if corruption is not None and ("sigma_n" in corruption or has_photon_noise(corruption)):
            return None
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
            f"--sigma-n {text!r} must be a number, a file with one number per image, auto or auto-per-sample"
        ) from None


def numbers_of(text: str) -> list[float]:
    """`--sigma-rel A,B,...`. Raises UserError for anything else."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--sigma-rel {text!r}: write it as numbers with commas, e.g. --sigma-rel .05,.1") from None
