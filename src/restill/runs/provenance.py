"""What each stage of a run was made from, and whether that is still what is there.

A stage notes it in its folder before anything else: fingerprints of the store, of the networks that it starts from and
of the user's own code, and the sections of the recipe that matter to it. Every later command compares; a stage whose
ingredients have changed is put aside and made again by the command that makes it. What an older restill made without
such a note is taken as it is.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import UserError, warn_of
from ..core.files import cannot_write, remove, write_json
from ..core.locks import moved
from ..core.plugins import defined_in, fingerprint_of
from ..core.reading import read_json, sha256, understood
from ..metrics import made_from
from ..store.manifest import FILE as MANIFEST
from ..store.manifest import read_manifest
from ..training import opponents_of
from .folder import MADE_FROM, Run
from .recipe import Recipe, flat

FORMAT = 1
_NONE = "none"  # there is no reference
SUPERSEDED = ".superseded"


class Needs(NamedTuple):
    """What a stage is made from: sections of the recipe, and earlier stages beside the store."""

    sections: tuple[str, ...]
    stages: tuple[str, ...] = ()


NEEDS = {
    "teacher": Needs(("seed", "network", "objective", "teacher")),
    "baseline": Needs(("seed", "network", "objective", "teacher", "baselines")),
    "refined": Needs(("seed", "objective", "teacher", "refine"), ("teacher",)),
    "student": Needs(("seed", "objective", "student"), ("teacher", "refined")),
}


def begin(run: Run, stage: str) -> None:
    """Before a stage is begun or continued: note what it is made from; one made from something else is put aside.

    Raises:
        UserError: it was made with other settings than the recipe's, or an earlier stage is not up to date.
    """
    for earlier in NEEDS[stage].stages:
        check(run, earlier)
    settings = {key: run.recipe.value(key) for key in _keys(run.recipe, stage)}
    note = {"format": FORMAT, "inputs": ingredients(run, stage), "settings": settings}
    if run.begun(stage):
        noted = _noted(run.stage(stage))
        if noted is not None:
            _check_settings(run.stage(stage), noted, settings)
        why = changed(run, stage)
        if why is None or _put_back(run, stage, note):
            return
        warn_of(
            f"{run.stage(stage)}: {why} than there is now; it is made again, and the old one is kept as "
            f"{_old(run, stage).name} until then"
        )
        put_aside(run, stage)
    elif _put_back(run, stage, note):
        return
    write_json(run.stage(stage) / MADE_FROM, note)


def _put_back(run: Run, stage: str, note: Mapping[str, Any]) -> bool:
    """Take back what was put aside if it is what would be made now: somebody exchanged data and has put them back.

    One that was put aside because its network is gone is not what would be made.
    """
    folder, old = run.stage(stage), _old(run, stage)
    if not all((old / name).exists() for name in ("model.safetensors", "config.json")) or _noted(old) != note:
        return False
    try:
        remove(folder)
        moved(old, folder)
    except OSError as error:
        raise cannot_write(folder, error, f"move {old} there yourself: it is up to date") from error
    return True


def complete(run: Run, stage: str) -> None:
    """A stage is done: what it replaces is removed."""
    old = _old(run, stage)
    try:
        remove(old)
    except OSError as error:
        raise cannot_write(old, error, "remove it yourself: the stage that replaces it is complete") from error


def put_aside(run: Run, stage: str) -> None:
    """Move a stage beside its place, from which it is removed once the new one is complete; its log begins anew."""
    folder, old = run.stage(stage), _old(run, stage)
    run.forget_log(stage, after=-1)
    try:
        if old.exists() and not run.trained(stage):  # an earlier complete one is worth more
            remove(folder)
        else:
            remove(old)
            moved(folder, old)
    except OSError as error:
        raise cannot_write(folder, error, "move it away yourself, and it is made again") from error


def check(run: Run, stage: str) -> None:
    """Raises UserError where a stage was made from something else than what is there now."""
    if (why := changed(run, stage)) is not None:
        raise UserError(f"{run.stage(stage)}: {why} than there is now; `restill run` makes it again")


def changed(run: Run, stage: str) -> str | None:
    """What a stage was made from and is not there any more, in words; None if nothing, or if it is not known."""
    noted = _noted(run.stage(stage))
    if noted is None:
        return None
    if (why := differing(noted["inputs"], ingredients(run, stage))) is not None:
        return why
    return next((why for earlier in NEEDS[stage].stages if (why := changed(run, earlier)) is not None), None)


def differing(noted: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """In words what differs of fingerprints that are known both then and now."""
    for name, fingerprint in noted.items():
        if name in now and now[name] != fingerprint:
            what = name.removeprefix("plugin ")
            return f"was made with another {what}.py" if name != what else f"was made from another {what}"
    return None


def measured_from(run: Run, reference: Path | None = None) -> dict[str, str]:
    """Fingerprints of what an evaluation measures: store, networks, how they are sampled, and the clean images.

    Args:
        reference: clean images that a person names in place of the run's own; they do not make an evaluation stale.
    """
    sampling = run.recipe.sampling.model_dump(mode="json", exclude={"batch_size", "show"})
    found = {"sampling": json.dumps(sampling, sort_keys=True), **networks(run)}
    if (run.store / MANIFEST).exists():
        found["store"] = read_manifest(run.store).fingerprint
    if reference is None:
        there = (run.reference / MANIFEST).exists()
        found["reference"] = read_manifest(run.reference).fingerprint if there else _NONE
    return found


def check_metrics(run: Run) -> None:
    """Raises UserError where `metrics.json` is of another store or network than those that are there now."""
    if (why := metrics_changed(run)) is not None:
        raise UserError(f"{run.metrics}: {why} than there is now; run `restill evaluate {run.path}` again")


def metrics_changed(run: Run) -> str | None:
    """What was measured and is another now, in words; None if nothing, or if it is not known.

    A reference that is gone changes no number, and a report needs none.
    """
    now = {name: value for name, value in measured_from(run).items() if name != "sampling" and value != _NONE}
    return differing(made_from(run.metrics), now)


def measured_already(run: Run) -> bool | None:
    """Whether `metrics.json` is of everything that is there now; None where an older restill wrote it."""
    noted = made_from(run.metrics)
    if not noted:
        return None
    now = measured_from(run)
    return noted == {key: value for key, value in now.items() if key != "reference" or key in noted}


def known(run: Run, stage: str) -> bool:
    """Whether a stage says what it was made from; those of older versions do not."""
    return (run.stage(stage) / MADE_FROM).exists()


def ingredients(run: Run, stage: str) -> dict[str, str]:
    """Fingerprints of what a stage would be made from now, as far as it is there."""
    found = {}
    if (run.store / MANIFEST).exists():
        found["store"] = read_manifest(run.store).fingerprint
    return found | networks(run, NEEDS[stage].stages) | _own_code(run, stage)


def networks(run: Run, stages: tuple[str, ...] = ("teacher", "refined", "baseline", "student")) -> dict[str, str]:
    """Fingerprints of the networks of stages, those that are there."""
    return {stage: _of_network(run.stage(stage)) for stage in stages if run.trained(stage)}


def _of_network(folder: Path) -> str:
    parts = []
    for name in ("model.safetensors", "config.json"):
        status = (folder / name).stat()
        parts.append(_of_file(folder / name, status.st_mtime_ns, status.st_size, status.st_ino))
    return "-".join(part[:32] for part in parts)


@functools.lru_cache(maxsize=64)
def _of_file(path: Path, *status: int) -> str:
    return sha256(path)


def _own_code(run: Run, stage: str) -> dict[str, str]:
    """Fingerprints of the user's code in a stage, as far as it is loaded."""
    names = dict.fromkeys(name for part in _parts(run.recipe, stage) if (name := defined_in(part)) is not None)
    names |= dict.fromkeys(run.recipe.build_corruption().functions)
    found = {f"plugin {name}": fingerprint_of(name) for name in names}
    return {name: fingerprint for name, fingerprint in found.items() if fingerprint is not None}


def _parts(recipe: Recipe, stage: str) -> Iterator[type]:
    """Classes that the user may have written."""
    sections = NEEDS[stage].sections
    yield from map(type, recipe.build_corruption().parts)
    yield from (type(getattr(recipe, name)) for name in ("network", "objective") if name in sections)
    if "student" in sections:
        yield type(recipe.student.loss)
        yield from opponents_of(recipe.student)


def _keys(recipe: Recipe, stage: str) -> list[str]:
    sections = NEEDS[stage].sections
    return [key for key in flat(recipe.model_dump(mode="json")) if key.split(".")[0] in sections]


def _check_settings(folder: Path, noted: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Keys that only one version of restill has do not count."""
    for key, value in noted["settings"].items():
        if key in now and now[key] != value:
            raise UserError(
                f"{folder}: was made with {key} {value!r:.60}, but the recipe says {now[key]!r:.60}; choose another "
                "folder for another recipe, or remove that one to make it again"
            )


def _noted(folder: Path) -> dict[str, Any] | None:
    path = folder / MADE_FROM
    if not path.exists():
        return None
    data = read_json(path)
    with understood(path, "a note of what a stage was made from"):
        if data["format"] != FORMAT:
            return None
        if not isinstance(data["inputs"], dict) or not isinstance(data["settings"], dict):
            raise ValueError("inputs and settings must map names to values")
    return dict(data)


def _old(run: Run, stage: str) -> Path:
    return run.stage(stage).with_name(f"{stage}{SUPERSEDED}")
