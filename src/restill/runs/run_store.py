"""The measurement store of a run: made from clean images, imported, or linked."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..acquisition import Acquisition, CleanImages, measurements_of, write
from ..core.errors import UserError
from ..core.files import cannot_write, remove
from ..core.locks import moved
from ..core.progress import progress_bar
from ..corruption import has_photon_noise
from ..io import images_named
from ..report import corruption_in_words
from ..store import Store, open_store
from .folder import Run
from .linked_store import check_reachable, link_store
from .provenance import SUPERSEDED
from .recipe_files import Recipe, load_recipe, recipe_from


def acquisition_of(recipe: Recipe) -> Acquisition:
    """What the store of a run is made of, from files. Raises UserError if the recipe names none, or other ones."""
    data, description = recipe.data, recipe.corruption
    if data.source is None:
        raise UserError(f"{recipe.name}: data.source is missing; name the images with --set data.source=PATH")
    if data.content == "clean":
        images = images_named(data.source, data.resize, data.layout, data.limit)
        return CleanImages(images, recipe.build_corruption(), recipe.seed, data.range)
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
    if recipe.data.content == "store":
        return _linked(run)
    own = run.path / "reference"
    old = own.with_name(f"{own.name}{SUPERSEDED}")
    if not run.store.exists():
        acquisition = acquisition_of(recipe)
        reference = own if acquisition.no_reference is None else None
        if reference is not None and os.path.lexists(reference):  # of a store that is not there any more
            _put_aside(reference, old)
        with progress_bar("store   ", acquisition.total, unit=acquisition.unit) as advance:
            write(acquisition, run.store, reference, advance)
    store = _usable(open_store(run.store))
    _check_own(recipe, store)
    with suppress(OSError):
        remove(old)
    return store


def _linked(run: Run) -> Store:
    """The store that the recipe names, or the one that an earlier command has linked."""
    recipe, place = run.recipe, run.path / "store"
    if place.is_dir():
        store = _usable(open_store(place))
        _check_own(recipe, store)
        return store
    if recipe.data.source is None:
        raise UserError(f"{recipe.name}: data.source is missing; name the store with --set data.source=PATH")
    found = run.store if run.store != place else Path(recipe.data.source)
    if not found.is_dir():
        check_reachable(place)
    store = _usable(open_store(found))
    link_store(place, store.path)
    return store


def _put_aside(reference: Path, old: Path) -> None:
    try:
        remove(old)
        moved(reference, old)
    except OSError as error:
        raise cannot_write(reference, error, "move it away yourself: it belongs to a store that is gone") from error


def _check_own(recipe: Recipe, store: Store) -> None:
    """Raises UserError where the run's store is not what its recipe says: somebody put another one there."""
    if recipe.data.content != "measurements" and store.corruption != recipe.build_corruption():
        raise UserError(
            f"{store.path}: was measured with {store.corruption.in_words()}, but the recipe's corruption is "
            f"{recipe.build_corruption().in_words()}; remove it, and `restill run` makes the recipe's, or use it with "
            "`restill pretrain` in a new run"
        )


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
