"""The measurement store of a run: made from clean images, imported, or linked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..acquisition import Acquisition, CleanImages, measurements_of, write
from ..core.errors import UserError
from ..core.progress import progress_bar
from ..corruption import has_photon_noise
from ..io import images_named
from ..report import corruption_in_words
from ..store import Store, open_store
from .folder import Run
from .recipe_files import Recipe, load_recipe, recipe_from


def acquisition_of(recipe: Recipe) -> Acquisition:
    """What the store of a run is made of, from files. Raises UserError if the recipe names none, or other ones."""
    data, description = recipe.data, recipe.corruption
    if data.source is None:
        raise UserError(f"{recipe.name}: data.source is missing; name the images with --set data.source=PATH")
    if data.content == "clean":
        images = images_named(data.source, data.resize, data.layout, data.limit)
        return CleanImages(images, recipe.build_corruption(), recipe.seed)
    sigma_n = None if "sigma_n" in description or has_photon_noise(description) else 0.0
    found = measurements_of(data, description, sigma_n, recipe.seed)
    if isinstance(description.get("sigma_n"), list) and found.unit == "images":
        raise UserError(
            f"{recipe.name}: data.content measurements needs a corruption with one sigma_n; for a level per "
            "image use `restill import` and data.content store"
        )
    return found


def recipe_on_store(name: str | Path, store: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name or path, with the data and the corruption of a store instead of its own."""
    corruption = json.dumps(open_store(store, verify=False).corruption.describe())
    source = json.dumps(str(store.resolve()))
    of_store = [f"data.source={source}", "data.content=store", f"corruption={corruption}"]
    return with_corruption_of_store(load_recipe(name, [*of_store, *overrides]))


def with_corruption_of_store(recipe: Recipe) -> Recipe:
    """The recipe; where its data are a store, with that store's corruption.

    Raises:
        UserError: no such store, or the recipe states another corruption than the store's.
    """
    if recipe.data.content != "store" or recipe.data.source is None:
        return recipe
    corruption = open_store(recipe.data.source, verify=False).corruption
    if "corruption" not in recipe.model_fields_set:
        return recipe_from({**recipe.model_dump(), "corruption": corruption.describe()}, recipe.name)
    if recipe.build_corruption() != corruption:
        measured, asked = (corruption_in_words(each.describe()) for each in (corruption, recipe.build_corruption()))
        raise UserError(
            f"{recipe.data.source}: was measured with {measured}, but the recipe's corruption is "
            f"{asked if asked != measured else 'another of the same kind'}; remove corruption from the recipe"
        )
    return recipe


def prepare_store(run: Run) -> Store:
    """The run's store; made if it is not there yet, checked if it is."""
    recipe = run.recipe
    if run.store.exists():
        return _usable(open_store(run.store))
    if recipe.data.content == "store":
        if recipe.data.source is None:
            raise UserError(f"{recipe.name}: data.source is missing; name the store with --set data.source=PATH")
        store = _usable(open_store(recipe.data.source))
        target = os.path.relpath(store.path.resolve(), run.path.resolve())
        run.store.symlink_to(target, target_is_directory=True)
        return store
    acquisition = acquisition_of(recipe)
    reference = run.path / "reference" if acquisition.no_reference is None else None
    if reference is not None and reference.exists():  # left over from an interruption just before the store was there
        shutil.rmtree(reference)
    with progress_bar("store   ", acquisition.total, unit=acquisition.unit) as advance:
        return write(acquisition, run.store, reference, advance)


def _usable(store: Store) -> Store:
    """The store. Raises UserError where a user's operator has changed since, so that other shapes are measured."""
    found = store.corruption.shapes(store.image_shape).observation
    if found != store.shape:
        words = corruption_in_words(store.corruption.describe())
        raise UserError(
            f"{store.path}: holds measurements of shape {list(store.shape)}, but {words} gives {list(found)} from "
            f"images {list(store.image_shape)}: another operator measured them"
        )
    return store
