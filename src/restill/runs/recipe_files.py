"""Recipes: the complete description of a run as checked, plain data.

A recipe is a YAML file; `restill run NAME` finds the shipped ones. Keys that are left out have the
defaults of `recipe.py`, unknown ones are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..core.errors import UserError
from ..core.files import write_text
from ..core.paths import check_recipe, recipes_folder, shipped_recipes
from ..core.reading import read_text
from ..core.settings import explain
from ..core.yaml_data import parse_yaml
from ..corruption import with_contents
from ..training import loss_in_one_place
from .recipe import Recipe

_KINDS = ("corruption", "objective", "loss")  # keys whose value may be a kind alone

__all__ = ["Recipe", "load_recipe", "recipe_from", "save_recipe", "shipped_recipes"]


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path and apply `key.path=value` overrides, values being YAML.

    Raises:
        UserError: no such recipe; not YAML; unknown key (names the nearest known one); wrong type or impossible value.
    """
    where, text = _read(str(name_or_path))
    try:
        data = parse_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict):
        raise UserError(f"{where}: a recipe must map keys to values")
    data = _present_keys(data)
    for override in overrides:
        _override(data, override)
        data = _present_keys(data)
    return recipe_from(data, where)


def recipe_from(data: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check plain data as a recipe. Raises UserError as `load_recipe` does."""
    try:
        recipe = Recipe.model_validate(dict(data))
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, Recipe)}") from error
    contents = with_contents(recipe.corruption, recipe.build_corruption())
    if contents == recipe.corruption:
        return recipe
    return recipe.model_copy(update={"corruption": contents})  # complete without the files that it names


def _present_keys(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe whose keys have moved since, as it is written now; keys that are not known stay as they are."""
    return data | {"student": loss_in_one_place(data["student"])} if "student" in data else data


def save_recipe(path: Path, recipe: Recipe) -> None:
    """Write the complete recipe, defaults included."""
    write_text(path, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _read(name_or_path: str) -> tuple[str, str]:
    shipped = recipes_folder() / f"{check_recipe(name_or_path)}.yaml"
    if "/" not in name_or_path and shipped.is_file():
        return name_or_path, shipped.read_text(encoding="utf-8")
    path = Path(name_or_path)
    if path.is_dir():
        path = path / "recipe.yaml"
    return str(path), read_text(path)


def _override(data: dict[str, Any], override: str) -> None:
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise UserError(f"--set {override!r}: write it as key.path=value, e.g. --set corruption.sigma_n=0.2")
    node, path = data, key.split(".")
    for part in path[:-1]:
        if part in _KINDS and isinstance(node.get(part), str):
            node[part] = {"kind": node[part]}  # a kind alone, to which a key comes
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise UserError(f"--set {key}: {part!r} holds a value, not keys")
    try:
        node[path[-1]] = parse_yaml(value)
        if path == ["student", "alpha"] and isinstance(node.get("loss"), dict):
            node["loss"].pop("alpha", None)  # its present place, which the override replaces
    except yaml.YAMLError as error:
        raise UserError(f"--set {override!r}: the value is not YAML") from error
