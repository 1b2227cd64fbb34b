"""What a path must lead to, looked at before anything slow is imported: a mistyped path costs no second."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any

from .errors import UserError

BUILT_IN = ("digits", "phantoms")
RECIPE, MANIFEST, CONFIG = "recipe.yaml", "manifest.json", "config.json"


def recipes_folder() -> Any:
    """The folder of the recipes in the package."""
    return resources.files(__package__.rpartition(".")[0]) / "runs" / "recipes"


def shipped_recipes() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(p.name.removesuffix(".yaml") for p in recipes_folder().iterdir() if p.name.endswith(".yaml"))


def check_there(path: Path) -> Path:
    """The path. Raises UserError if nothing lies there."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    return path


def check_images(name_or_path: str) -> str:
    """The name of built-in images, or a path where something lies. Raises UserError if it is neither."""
    if name_or_path not in BUILT_IN:
        check_there(Path(name_or_path))
    return name_or_path


def check_run(path: Path) -> Path:
    """The path. Raises UserError if it holds no run."""
    if not (path / RECIPE).is_file():
        raise UserError(f"{path}: is not a run (it has no {RECIPE}); `restill run` makes one")
    return path


def check_recipe(name_or_path: str) -> str:
    """The name of a shipped recipe, or a path where something lies. Raises UserError if it is neither."""
    if ("/" in name_or_path or name_or_path not in shipped_recipes()) and not Path(name_or_path).exists():
        near = difflib.get_close_matches(name_or_path, shipped_recipes(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"shipped are {', '.join(shipped_recipes())}"
        raise UserError(f"{name_or_path}: no such recipe; {hint}")
    return name_or_path


def check_known(path: Path) -> Path:
    """The path of something, or the name of a shipped recipe. Raises UserError if it is neither."""
    if not path.exists() and str(path) not in shipped_recipes():
        near = difflib.get_close_matches(str(path), shipped_recipes(), n=1)
        raise UserError(f"{path}: no such file or folder{f'; did you mean the recipe {near[0]!r}?' if near else ''}")
    return path


def check_store(path: Path) -> Path:
    """The path. Raises UserError if no store lies there, and none is being written."""
    if not path.exists() and not writing_path(path).exists():
        raise UserError(f"{path}: no such store; `restill corrupt` and `restill import` write stores")
    return path


def writing_path(store: Path) -> Path:
    """Where the store at `store` lies until it is complete."""
    return store.with_name(f"{store.name}.writing")
