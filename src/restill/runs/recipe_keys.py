"""The keys of a recipe as tables, made of the sections themselves: for one recipe, or for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from ..core.kinds import Pluggable, kinds, of_kind
from ..core.settings import Key, keys_of
from ..corruption import Corruption
from ..diffusion.networks import Architecture
from ..objectives import DistillationLoss, Objective
from ..sampling.settings import SamplingSettings
from .recipe import Recipe, flat

FAMILIES: dict[str, type[Pluggable]] = {
    "corruption": Corruption,
    "network": Architecture,
    "objective": Objective,
    "student.loss": DistillationLoss,
    "sampling": SamplingSettings,
}
"""Keys that hold a member of a family, whose own keys depend on its kind."""


def keys_table(recipe: Recipe, complete: bool) -> Table:
    """Keys with values, units and descriptions: all keys, or those that differ from the defaults."""
    known = {key.name: key for key in recipe_keys({key: recipe.value(f"{key}.{tag(key)}") for key in FAMILIES})}
    values, usual = (flat(each.model_dump(mode="json")) for each in (recipe, Recipe(name=recipe.name)))
    table = Table(title="Keys" if complete else "Keys that differ from the defaults", title_justify="left", box=None)
    for column in ("key", "value", "unit", "what it does"):
        table.add_column(column)
    for name in {**known, **values}:
        key = known.get(name, Key(name, "", None, "", ""))
        changed = name in values and (name not in usual or usual[name] != values[name])
        if (changed or complete) and name not in ("name", "description"):
            words = (name, written(values.get(name, key.default), 40), key.unit, key.does)
            table.add_row(*map(Text, words), style="bold" if changed and complete else None)
    return table


def recipe_keys(chosen: Mapping[str, str]) -> Iterator[Key]:
    """All keys of a recipe; of families those of the kinds that are chosen."""
    for key in keys_of(Recipe):
        if key.name not in FAMILIES:
            yield key
            continue
        family, kind = FAMILIES[key.name], chosen[key.name]
        yield Key(f"{key.name}.{tag(key.name)}", f"one of {', '.join(kinds(family))}", kind, "", key.does)
        yield from member_keys(key.name, kind)


def member_keys(name: str, kind: str) -> Iterator[Key]:
    """The own keys of a kind, below the key `name` that holds it."""
    found: type[Any] = of_kind(FAMILIES[name], kind)
    if issubclass(found, BaseModel):
        yield from keys_of(found, f"{name}.")


def tag(name: str) -> str:
    """The key that says the kind of what stands under `name`."""
    return FAMILIES[name].tag


def written(value: Any, most: int = 80) -> str:
    """A value as it is written in YAML, shortened."""
    if value is None or value is ... or isinstance(value, bool):
        return {None: "null", True: "true", False: "false", ...: "must be stated"}[value]
    if isinstance(value, (list, tuple)):
        text = f"[{', '.join(map(written, value))}]"
    elif isinstance(value, int):
        text = f"{value:,}".replace(",", "_")
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
