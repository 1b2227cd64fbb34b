"""`restill info`: the contents of a store, a run, a network folder or a recipe, in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from ..checkpoint import load_state, planned_network
from ..core.errors import UserError
from ..core.paths import check_known, shipped_recipes
from ..metrics import load_results
from ..report import corruption_in_words, rich_table, subject_names
from ..report.noise_estimate import histogram
from ..store import Store, open_store
from ..store.reference import Reference, open_samples
from .counters import load_counters
from .describe_recipe import describe_recipe, facts_table
from .folder import Run, open_run
from .provenance import changed, known, metrics_changed
from .recipe_files import load_recipe
from .recipe_keys import keys_table


def describe(path: Path, overrides: Sequence[str] = (), all_keys: bool = False) -> RenderableType:
    """A summary of what lies at `path`, or of the shipped recipe of that name with `overrides`.

    Args:
        all_keys: show every key of the recipe, or of the run's recipe.

    Raises:
        UserError: nothing of restill's lies at `path`, or `overrides` or `all_keys` do not apply to it.
    """
    if _is_recipe(path):
        return describe_recipe(load_recipe(path, overrides), all_keys)
    if overrides:
        raise UserError(f"{path}: --set needs a recipe; this is not one")
    if (path / "recipe.yaml").exists():
        run = open_run(path)
        return keys_table(run.recipe, complete=True) if all_keys else _run(run)
    if all_keys:
        raise UserError(f"{path}: --keys needs a recipe or a run; this is neither")
    check_known(path)
    if (path / "manifest.json").exists():
        return _store(open_samples(path))
    if (path / "config.json").exists():
        return _network(path)
    if path.suffix == ".safetensors":
        return _state(path)
    raise UserError(f"{path}: is neither a store, run or network folder of restill nor a recipe")


def _is_recipe(path: Path) -> bool:
    """A YAML file, or the name of a shipped recipe unless a folder of that name holds something of restill's."""
    if path.is_file():
        return path.suffix in (".yaml", ".yml")
    taken = any((path / name).exists() for name in ("manifest.json", "recipe.yaml", "config.json"))
    return str(path) in shipped_recipes() and not taken


def _store(store: Store | Reference) -> RenderableType:
    manifest, scale = store.manifest, store.manifest.normalisation.scale
    sigma = manifest.sigma_n
    estimated = ", estimated" if sigma.estimated else ""
    facts = {
        "kind": manifest.kind,
        "samples": f"{len(store):,} of shape {list(store.shape)}, images {list(manifest.image_shape)}",
        "values": f"{manifest.value_range[0]:g} to {manifest.value_range[1]:g} in the files are -1 to 1 here",
        "from": f"{manifest.provenance.source}, {manifest.provenance.created}, restill "
        f"{manifest.provenance.restill_version}, seed {manifest.provenance.seed}",
        "classes": f"{store.num_classes}" if store.num_classes else "no labels",
        "shards": f"{len(manifest.shards)}, sha256 verified",
    }
    if store.is_complex:
        facts["samples"] += ", complex (real and imaginary part)"
        facts["values"] = f"complex: a magnitude of {manifest.value_range[1]:g} in the files is 1 here"
    if store.scale is not None:
        low, high = float(store.scale.min()), float(store.scale.max())
        facts["values"] = f"complex: 1 here is {low:.3g} to {high:.3g} in the files; each slice has its own scale"
    if isinstance(store, Reference):
        return facts_table(f"{store.path}: clean reference", facts)
    facts["corruption"] = store.corruption.in_words()
    levels = f"{sigma.mean:.4g} ({sigma.min:.4g} to {sigma.max:.4g}{estimated})"
    physical = sigma.mean * scale if store.scale is None else float((store.sigma_n * store.scale).mean())
    facts["sigma_n"] = f"{levels}; in the files' units {physical:.4g}"
    return Group(facts_table(f"{store.path}: measurements", facts), Text("\nnoise levels"), histogram(store.sigma_n))


def _run(run: Run) -> RenderableType:
    facts, names = {"recipe": run.recipe.name}, dict[str, str]()
    if run.store.exists():
        store = open_store(run.store)
        what = "measurements of complex images" if store.is_complex else "measurements"
        facts["store"] = f"{len(store):,} {what} with {store.corruption.in_words()}"
        names = subject_names(store.corruption)
    for stage in ("teacher", "student"):
        facts[stage] = _progress(run, stage) + _made_from(run, stage)
    if run.metrics.exists() and (why := metrics_changed(run)) is not None:
        facts["metrics"] = f"{why.replace('was', 'were', 1)} than there is now: `restill evaluate` makes them again"
    parts: list[RenderableType] = [facts_table(f"{run.path}: run", facts)]
    if run.metrics.exists():
        parts += [Text(), rich_table(load_results(run.metrics).results, names)]
    if run.report.exists():
        parts.append(Text(f"\n{run.report}"))
    return Group(*parts)


def _made_from(run: Run, stage: str) -> str:
    """Whether what a stage was made from is still there, in words."""
    if not run.stage(stage).exists():
        return ""
    if not known(run, stage):
        return "; what it was made from is not known (an older restill made it)"
    why = changed(run, stage)
    return "" if why is None else f"; {why} than there is now: `restill run` makes it again"


def _progress(run: Run, stage: str) -> str:
    if not run.state(stage).exists():
        return "trained" if run.trained(stage) else "not begun"
    counters = load_counters(run.state(stage))
    text, best = f"step {counters.step:,} of {counters.steps:,}", counters.best
    if best:
        text += f"; kept: step {best['step']:,}, proximal Fréchet {best['proximal_frechet']:.4g}"
    return text


def _network(path: Path) -> RenderableType:
    config, denoiser = planned_network(path)
    parameters = sum(p.numel() for p in denoiser.parameters())
    pairs = " complex (real and imaginary part)" if config.complex_values else ""
    facts = {
        "network": f"{config.cls} {config.kwargs.get('model_type', '')}, {parameters:,} parameters",
        "images": f"{list(config.shape)}{pairs}, classes: {config.num_classes or 'none'}",
        "trained on": f"{corruption_in_words(config.corruption)}, {config.images_seen:,} images presented",
        "sigma_data": f"{config.sigma_data:.4g}",
    }
    if config.init_sigma is not None:
        facts["init_sigma"] = f"{config.init_sigma:g}"
    return facts_table(f"{path}: {config.role}", facts)


def _state(path: Path) -> RenderableType:
    tensors, data = load_state(path)
    facts = {"tensors": f"{len(tensors):,}", "holds": json.dumps({k: v for k, v in data.items() if k != "kwargs"})}
    return facts_table(f"{path}: checkpoint", facts)
