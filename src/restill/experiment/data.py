"""The measurement store of a run: made from clean images, imported, or linked."""

from __future__ import annotations

import os
from pathlib import Path

from ..config import Recipe
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


def prepare_store(run: Run) -> Store:
    """The run's store; made if it is not there yet, checked if it is."""
    recipe = run.recipe
    if run.store.exists():
        return open_store(run.store)
    if recipe.data.content == "store":
        if recipe.data.source is None:
            raise UserError(f"{recipe.name}: which store? Give it with --set data.source=PATH")
        store = open_store(recipe.data.source)
        run.store.symlink_to(os.path.relpath(recipe.data.source, run.path), target_is_directory=True)
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
