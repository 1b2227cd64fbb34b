"""The measurement store of a run: made from clean images, imported, or linked."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..acquisition import corrupt_images, import_kspace, import_measurements, masks_from
from ..core.errors import UserError
from ..core.progress import Advance, progress_bar
from ..corruption import has_photon_noise
from ..io import ImageSource, images_named, is_kspace, open_kspace
from ..report import corruption_in_words
from ..store import Store, open_store
from .folder import Run
from .recipe_files import Recipe, load_recipe, recipe_from


def source_of(recipe: Recipe) -> ImageSource:
    """The images that a recipe names. Raises UserError if it names none."""
    section = recipe.data
    if section.source is None:
        raise UserError(f"{recipe.name}: which images? Give them with --set data.source=PATH")
    return images_named(section.source, section.resize)


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
        measured, asked = (corruption_in_words(each.describe()) for each in (law, recipe.law()))
        raise UserError(
            f"{recipe.data.source}: was measured with {measured}, but the recipe's corruption is "
            f"{asked if asked != measured else 'another one of these'}; leave corruption out of the recipe"
        )
    return recipe


def prepare_store(run: Run) -> Store:
    """The run's store; made if it is not there yet, checked if it is."""
    recipe = run.recipe
    if run.store.exists():
        return _usable(open_store(run.store))
    if recipe.data.content == "store":
        if recipe.data.source is None:
            raise UserError(f"{recipe.name}: which store? Give it with --set data.source=PATH")
        store = _usable(open_store(recipe.data.source))
        target = os.path.relpath(store.path.resolve(), run.path.resolve())
        run.store.symlink_to(target, target_is_directory=True)
        return store
    if holds_kspace(recipe):
        return _imported_kspace(run)
    source = source_of(recipe)
    with progress_bar("store   ", len(source)) as advance:
        if recipe.data.content == "clean":
            reference = run.path / "reference"
            _remove_half(reference)
            return corrupt_images(source, recipe.law(), run.store, reference, recipe.seed, advance)
        return _imported(run, source, advance)


def holds_kspace(recipe: Recipe) -> bool:
    """Whether the measurements that a recipe names are multi-coil k-space.

    Raises:
        UserError: keys that the other sort of measurements has.
    """
    section = recipe.data
    if section.content != "measurements" or section.source is None:
        return False
    kspace = is_kspace(section.source)
    wrong = ("resize", "image_size") if kspace else ("crop", "coils", "maps")
    for key in wrong:
        if getattr(section, key) is not None:
            what = "images, but these are k-space" if kspace else f"k-space, but {section.source} is none"
            raise UserError(f"{recipe.name}: data.{key} is for {what}; leave it out")
    return kspace


def _imported_kspace(run: Run) -> Store:
    """The store of the k-space that the recipe names; with a reference where its lines are dropped here."""
    recipe, section = run.recipe, run.recipe.data
    if section.sigma_unit != "data":
        raise UserError(f"{recipe.name}: data.sigma_unit must be data for k-space, whose slices have a scale each")
    reference = run.path / "reference" if "acceleration" in recipe.corruption else None
    if reference is not None:
        _remove_half(reference)
    source = open_kspace(str(section.source))
    with progress_bar("store   ", 2 * len(source), unit="slices") as advance:
        return import_kspace(
            source,
            run.store,
            reference=reference,
            crop=section.crop,
            coils=section.coils,
            mask=section.masks,
            maps=section.maps,
            law=recipe.corruption,
            seed=recipe.seed,
            advance=advance,
        )


def _usable(store: Store) -> Store:
    """The store, if its law still measures as it did. Raises UserError for a user's operator that is not loaded."""
    law = store.corruption
    found = tuple(law.observation_shape(store.image_shape))
    if found != store.shape:
        raise UserError(
            f"{store.path}: holds measurements of shape {list(store.shape)}, but {corruption_in_words(law.describe())} "
            f"makes {list(found)} of images {list(store.image_shape)}: the operator is not the one that measured them"
        )
    return store


def _imported(run: Run, source: ImageSource, advance: Advance) -> Store:
    """The store of measurements that the recipe names and describes."""
    section, description = run.recipe.data, dict(run.recipe.corruption)
    sigma_n = description.pop("sigma_n", None if has_photon_noise(description) else 0.0)
    if isinstance(sigma_n, list):
        raise UserError(
            f"{run.recipe.name}: data.content measurements takes a corruption with one sigma_n; for levels of each "
            "image use `restill import` and data.content store"
        )
    return import_measurements(
        source,
        run.store,
        sigma_n,
        section.sigma_unit,
        advance=advance,
        corruption=description,
        masks=masks_from(section.masks, section.resize),
        image_size=section.image_size,
    )


def _remove_half(reference: Path) -> None:
    """A reference without its store is left over from an interruption just between the two."""
    if reference.exists():
        for file in reference.iterdir():
            file.unlink()
        reference.rmdir()
