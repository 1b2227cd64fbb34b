"""`restill info RECIPE`: what a recipe asks for, and what that takes, before anything is done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..core.errors import UserError
from ..corruption import Corruption
from ..report import corruption_in_words
from ..store import open_store
from .cost import PRECISIONS, NetworkCost, PhaseCost, network_cost, student_cost, teacher_cost
from .facts import facts_table
from .objects import given_by
from .recipe import Recipe
from .recipe_keys import keys_table
from .run_store import acquisition_of, with_law_of_store

_CHANNELS = 3  # of images that are not there to be looked at
_CAPACITY = 80 * 2**30  # bytes of the device that images at a time are told for
_RATE = 100e12  # FLOP a second that time is told for
_NOT_COUNTED = (
    "Activations are what autograd keeps for the backward pass, counted by sending images without data through the "
    "network. Not counted: the workspace of single operations, what the device's libraries take, memory that its "
    "allocator cannot use, the corruption itself. GFLOP: products and sums of convolutions, layers and attention."
)


class Images(NamedTuple):
    """The images of a recipe.

    Attributes:
        words: what the recipe says about them.
        shape: `(C, H, W)` on the grid of the generator; None where nobody can know.
        num_classes: 0 without labels.
    """

    words: str
    shape: tuple[int, ...] | None
    num_classes: int = 0


def describe_recipe(recipe: Recipe, all_keys: bool = False) -> RenderableType:
    """A recipe in words, with parameters, arithmetic and memory of both phases.

    Args:
        all_keys: show every key, not only those that differ from the defaults.

    Where the images are not there, colour images of the recipe's `data.resize` are assumed, and this is said.

    Raises:
        UserError: images of that shape cannot be measured so, or no network fits them.
    """
    section = recipe.data
    if section.content == "store" and section.source is not None and Path(section.source).exists():
        recipe = with_law_of_store(recipe)
    law, images = recipe.law(), images_of(recipe)
    teacher, student = recipe.teacher, recipe.student
    facts = {
        "description": recipe.description or "none",
        "data": images.words,
        "corruption": corruption_in_words(law.describe()),
    }
    schedules = {
        "teacher": f"{recipe.objective.kind}, {_schedule(teacher.images, teacher.batch_size)}",
        "student": f"{student.loss.kind}, {_schedule(student.images, student.batch_size)}",
    }
    title = f"{recipe.name}: recipe"
    if images.shape is None:
        facts["network"] = f"{recipe.network.kind}; of what size, the images decide"
        return Group(facts_table(title, facts | schedules), Text(), keys_table(recipe, all_keys))
    given = given_by(recipe, law, images.shape, images.num_classes)
    shape = (given.channels, *images.shape[1:])  # networks work on the image grid
    cost = network_cost(*recipe.network.arguments(given), shape)
    facts["network"] = _network(recipe, law, images.shape, shape, cost)
    phases = teacher_cost(cost, teacher), student_cost(cost, student)
    facts |= schedules
    counted = Text(_NOT_COUNTED, style="dim")
    return Group(facts_table(title, facts), Text(), _takes(*phases), counted, Text(), keys_table(recipe, all_keys))


def images_of(recipe: Recipe) -> Images:
    """What is known of the images of a recipe, from the images if they can be read, else from `data.resize`."""
    section = recipe.data
    what = "clean images" if section.content == "clean" else "measurements"
    where = "the store " if section.content == "store" else ""
    if section.source is None:
        words = f"{what}, to be given with --set data.source=PATH"
    else:
        try:
            return _read(recipe, f"{what} from {where}{section.source}")
        except UserError as error:
            words = f"{what} from {where}{section.source}, which cannot be read here ({error})"
    if section.crop is not None:
        shape = (2, *section.crop)
        return Images(f"{words}, cropped to {_by(section.crop)}", shape)
    if section.resize is None:
        return Images(f"{words}; their shape is not known", None)
    shape = (2 if recipe.law().is_complex else _CHANNELS, section.resize, section.resize)
    return Images(f"{words}, resized; assuming {_by(shape)}", shape)


def _read(recipe: Recipe, words: str) -> Images:
    """As the images say. Raises UserError where they cannot be read."""
    section = recipe.data
    if section.content == "store":
        store = open_store(str(section.source), verify=False)
        return Images(f"{words}: {len(store):,} of {_by(store.image_shape)}", store.image_shape, store.num_classes)
    acquisition = acquisition_of(recipe)
    return Images(f"{words}: {acquisition.in_words}", acquisition.image_shape, acquisition.num_classes)


def _network(
    recipe: Recipe, law: Corruption, image_shape: tuple[int, ...], shape: tuple[int, ...], cost: NetworkCost
) -> str:
    condition = law.shapes(image_shape).condition
    channels = f"{shape[0]} channel{'s' if shape[0] > 1 else ''} in and out"
    mask = f", {condition} of them for the mask" if condition else ""
    return f"{recipe.network.kind}, {cost.parameters:,} parameters; {channels}{mask}, {shape[1]} x {shape[2]}"


def _schedule(images: int, batch: int) -> str:
    return f"{images:,} images: {-(-images // batch):,} iterations of {batch:,}"


def _takes(teacher: PhaseCost, student: PhaseCost) -> Table:
    """What the phases take, side by side."""
    table, phases = Table(title="What it takes", title_justify="left", box=None), (teacher, student)
    table.add_column()
    table.add_column("teacher (phase I)", justify="right")
    table.add_column("student (phase II)", justify="right")

    def row(name: str, texts: Iterable[str], style: str | None = None) -> None:
        table.add_row(Text(name), *(Text(text) for text in texts), style=style)

    row("images of an iteration", (f"{phase.batch:,}" for phase in phases))
    row("of them at a time", (f"{phase.at_once:,}" for phase in phases))
    row("GFLOP per image", (_figures(phase.flop / 1e9) for phase in phases))
    row("in all", (_flop(phase.flop * phase.images) for phase in phases))
    row("at 100 TFLOP/s", (_time(phase.flop * phase.images / _RATE) for phase in phases))
    for name in teacher.weights:
        row(name, (_bytes(phase.held(name)) for phase in phases))
    for precision in PRECISIONS:
        row(f"activations, {precision}", (_bytes(phase.activations[precision](phase.at_once)) for phase in phases))
    for precision in PRECISIONS:
        row(f"memory in all, {precision}", (_bytes(phase.memory(precision)) for phase in phases), "bold")
    for precision in PRECISIONS:
        most = (f"{phase.most_at_once(precision, _CAPACITY):,}" for phase in phases)
        row(f"images at a time in 80 GiB, {precision}", most)
    return table


def _by(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def _figures(value: float) -> str:
    """Three significant figures, without exponents."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1e-3 else f"{value:.1g}"


def _flop(value: float) -> str:
    """In a unit that leaves at least one digit before the point."""
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12)):
        if value >= size:
            return f"{_figures(value / size)} {unit}"
    return f"{_figures(value / 1e9)} GFLOP"


def _bytes(value: float) -> str:
    """In a unit that leaves at least one digit before the point."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if value >= size:
            return f"{_figures(value / size)} {unit}"
    return f"{_figures(value / 2**10)} KiB"


def _time(seconds: float) -> str:
    """Days, hours, minutes or seconds."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{_figures(seconds / size)} {unit}"
    return f"{_figures(seconds)} s"
