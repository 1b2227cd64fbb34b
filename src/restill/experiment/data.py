"""The measurement store of a run: made from clean images, imported, or linked."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..config import Recipe, load_recipe, recipe_from
from ..data import ImageSource, digits, open_images
from ..errors import UserError
from ..progress import progress_bar
from ..store import Store, corrupt_images, import_measurements, open_store
from .folder import Run


def source_of(recipe: Recipe) -> ImageSource:
    """The images that a recipe names. Raises UserError if it names none."""
    section = recipe.data
    if section.source is None:
        raise UserError(f"{recipe.name}: which images? Give them with --set data.source=PATH")
    if section.source == "digits":
        return digits()
    return open_images(section.source, section.resize)


def recipe_on_store(name: str | Path, store: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name or path, with the data and the corruption of a store instead of its own."""
    law = json.dumps(open_store(store, verify=False).corruption.describe())
    source = json.dumps(str(store.resolve()))
    of_store = [f"data.source={source}", "data.content=store", f"corruption={law}"]
    return with_law_of_store(load_recipe(name, [*of_store, *overrides]))


def with_law_of_store(recipe: Recipe) -> Recipe:
    """The recipe; where its data are a store, with that store's corruption.

    Raises:
        UserError: no such store, or the recipe states another corruption than the store's.
    """
    if recipe.data.content != "store" or recipe.data.source is None:
        return recipe
    law = open_store(recipe.data.source, verify=False).corruption
    if "corruption" not in recipe.model_fields_set:
        return recipe_from({**recipe.model_dump(), "corruption": law.describe()}, recipe.name)
    if recipe.law() != law:
        raise UserError(
            f"{recipe.data.source}: was measured with {law.describe()}, but the recipe's corruption is "
            f"{recipe.law().describe()}; leave corruption out of the recipe"
        )
    return recipe


def prepare_store(run: Run) -> Store:
    """The run's store; made if it is not there yet, checked if it is."""
    recipe = run.recipe
    if run.store.exists():
        return open_store(run.store)
    if recipe.data.content == "store":
        if recipe.data.source is None:
            raise UserError(f"{recipe.name}: which store? Give it with --set data.source=PATH")
        store = open_store(recipe.data.source)
        target = os.path.relpath(store.path.resolve(), run.path.resolve())
        run.store.symlink_to(target, target_is_directory=True)
        return store
    source = source_of(recipe)
    with progress_bar("store   ", len(source)) as advance:
        if recipe.data.content == "clean":
            reference = run.path / "reference"
            _remove_half(reference)
            return corrupt_images(source, recipe.law(), run.store, reference, recipe.seed, advance)
        law = recipe.law()
        if law.kind != "noise" or not isinstance(law.sigma_n, (int, float)):
            raise UserError(
                f"{recipe.name}: data.content measurements takes corruption.kind noise with one sigma_n; for levels of "
                "each image use `restill import` and data.content store"
            )
        return import_measurements(source, run.store, law.sigma_n, recipe.data.sigma_unit, advance=advance)


def _remove_half(reference: Path) -> None:
    """A reference without its store is left over from an interruption just between the two."""
    if reference.exists():
        for file in reference.iterdir():
            file.unlink()
        reference.rmdir()
