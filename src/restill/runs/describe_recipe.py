"""`restill info RECIPE`: what a recipe asks for, and what that takes, before anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..core.errors import UserError
from ..report import corruption_in_words
from ..store import open_store
from ..training.cost import PRECISIONS, PhaseCost, network_cost, student_cost, teacher_cost
from .objects import given_by
from .recipe import Recipe
from .recipe_keys import keys_table
from .run_store import acquisition_of, with_corruption_of_store

_CHANNELS = 3  # assumed of images that are not there
_CAPACITY = 80 * 2**30  # bytes of the device for which the table says how many images fit
_RATE = 100e12  # FLOP a second for which the table says how long it takes
_FLOP = (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9))
_BYTES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_TIME = (("days", 86400), ("hours", 3600), ("minutes", 60), ("s", 1))
_NOT_COUNTED = (
    "Activations are the tensors that autograd keeps for the backward pass, counted with images without data. Not "
    "counted: workspaces of single operations, memory of the device's libraries, fragmentation of its allocator, and "
    "the corruption. GFLOP: multiplications and additions of convolutions, linear layers and attention."
)


class Images(NamedTuple):
    """The images of a recipe in words, their shape `(C, H, W)` on the generator's grid, and how many classes.

    The shape is None where it is not known before the images are there.
    """

    words: str
    shape: tuple[int, ...] | None
    num_classes: int = 0


def describe_recipe(recipe: Recipe, all_keys: bool = False) -> RenderableType:
    """A recipe in words, with parameters, arithmetic and memory of both phases.

    Where the images are not there, colour images of the recipe's `data.resize` are assumed, and the text says so.

    Args:
        all_keys: show every key, not only those that differ from the defaults.

    Raises:
        UserError: the corruption cannot measure images of that shape, or no network fits them.
    """
    source = recipe.data.source
    if recipe.data.content == "store" and source is not None and Path(source).exists():
        recipe = with_corruption_of_store(recipe)
    corruption, images = recipe.build_corruption(), images_of(recipe)
    teacher, student, kind = recipe.teacher, recipe.student, recipe.network.kind
    facts = {
        "description": recipe.description or "none",
        "data": images.words,
        "corruption": corruption_in_words(corruption.describe()),
        "network": f"{kind}; its size follows from the images",
        "teacher": f"{recipe.objective.kind}, {_schedule(teacher.images, teacher.batch_size)}",
        "student": f"{student.loss.kind}, {_schedule(student.images, student.batch_size)}",
    }
    takes: list[RenderableType] = []
    if images.shape is not None:
        given = given_by(recipe, corruption, images.shape, images.num_classes)
        shape = (given.channels, *images.shape[1:])  # networks work on the image grid
        cost = network_cost(*recipe.network.arguments(given), shape)
        condition = corruption.shapes(images.shape).condition
        channels = f"{shape[0]} channel{'s' if shape[0] > 1 else ''} in and out"
        mask = f", {condition} of them for the mask" if condition else ""
        facts["network"] = f"{kind}, {cost.parameters:,} parameters; {channels}{mask}, {_by(shape[1:])}"
        table = _takes(teacher_cost(cost, teacher), student_cost(cost, student))
        takes = [Text(), table, Text(_NOT_COUNTED, style="dim")]
    return Group(facts_table(f"{recipe.name}: recipe", facts), *takes, Text(), keys_table(recipe, all_keys))


def facts_table(title: str, facts: Mapping[str, str]) -> Table:
    """Names and values as a table without lines, as all of `restill info` shows them."""
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def images_of(recipe: Recipe) -> Images:
    """What is known of the images of a recipe, from the images if they can be read, else from `data.resize`."""
    section = recipe.data
    what = "clean images" if section.content == "clean" else "measurements"
    words = f"{what} from {'the store ' if section.content == 'store' else ''}{section.source}"
    if section.source is None:
        words = f"{what}, to be given with --set data.source=PATH"
    else:
        try:
            return _read(recipe, words)
        except UserError as error:
            words = f"{words}, which cannot be read here ({error})"
    if section.crop is not None:
        return Images(f"{words}, cropped to {_by(section.crop)}", (2, *section.crop))
    if section.resize is None:
        return Images(f"{words}; their shape is not known", None)
    shape = (2 if recipe.build_corruption().is_complex else _CHANNELS, section.resize, section.resize)
    return Images(f"{words}, resized; assuming {_by(shape)}", shape)


def _read(recipe: Recipe, words: str) -> Images:
    """What the images say. Raises UserError where they cannot be read."""
    if recipe.data.content == "store":
        store = open_store(str(recipe.data.source), verify=False)
        return Images(f"{words}: {len(store):,} of {_by(store.image_shape)}", store.image_shape, store.num_classes)
    acquisition = acquisition_of(recipe)
    return Images(f"{words}: {acquisition.in_words}", acquisition.image_shape, acquisition.num_classes)


def _schedule(images: int, batch: int) -> str:
    return f"{images:,} images: {-(-images // batch):,} iterations of {batch:,}"


def _takes(teacher: PhaseCost, student: PhaseCost) -> Table:
    """What the phases take, side by side."""
    table = Table(title="What it takes", title_justify="left", box=None)
    table.add_column()
    table.add_column("teacher (phase I)", justify="right")
    table.add_column("student (phase II)", justify="right")
    for (name, first), second in zip(_figures(teacher).items(), _figures(student).values(), strict=True):
        table.add_row(*map(Text, (name, first, second)), style="bold" if name.startswith("memory") else None)
    return table


def _figures(phase: PhaseCost) -> dict[str, str]:
    """What a phase takes, by the names of the table's rows."""
    flop, memory = phase.flop * phase.images, phase.activations
    return {
        "images of an iteration": f"{phase.batch:,}",
        "of them at a time": f"{phase.at_once:,}",
        "GFLOP per image": _digits(phase.flop / 1e9),
        "in all": _with_unit(flop, _FLOP),
        "at 100 TFLOP/s": _with_unit(flop / _RATE, _TIME, least=2),
        **{name: _with_unit(phase.held(name), _BYTES) for name in phase.weights},
        **{f"activations, {name}": _with_unit(saved(phase.at_once), _BYTES) for name, saved in memory.items()},
        **{f"memory in all, {name}": _with_unit(phase.memory(name), _BYTES) for name in PRECISIONS},
        **{f"images at a time in 80 GiB, {name}": f"{phase.most_at_once(name, _CAPACITY):,}" for name in PRECISIONS},
    }


def _by(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def _digits(value: float) -> str:
    """Three significant figures, without exponents."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1e-3 else f"{value:.1g}"


def _with_unit(value: float, units: Sequence[tuple[str, float]], least: float = 1) -> str:
    """In the largest unit that gives a number of at least `least`, or in the smallest unit."""
    unit, size = next((each for each in units if value >= least * each[1]), units[-1])
    return f"{_digits(value / size)} {unit}"
