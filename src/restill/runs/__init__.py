"""The only wiring: from a recipe to objects to the stages of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..metrics import Result, load_results, was_asked
from ..report import Verdict
from .baselines import baselines
from .evaluation import check_evaluation, evaluate
from .folder import Run, amended, open_run, working_on
from .objects import build_denoiser
from .phases import distill, pretrain
from .provenance import measured_already
from .recipe_files import Recipe, load_recipe
from .refining import check_refinement, refine
from .reporting import report
from .run_store import prepare_store, recipe_on_store, with_corruption_of_store
from .subjects import trained


def run(recipe: str | Path | Recipe, out: str | Path, overrides: Sequence[str] = ()) -> tuple[list[Result], Verdict]:
    """Everything from data to report; continues what was interrupted, skips what is done.

    Args:
        recipe: name of a shipped recipe, path of a YAML file, or a `Recipe`.
        out: the run directory.
        overrides: `key.path=value`.

    Returns:
        The results and the verdict on them.

    Raises:
        UserError: a mistake in recipe, data or `out`.
        KeyboardInterrupt: after Ctrl-C, when a checkpoint has been written.
    """
    checked = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    with working_on(Path(out), with_corruption_of_store(checked)) as current:
        prepare_store(current)
        check_evaluation(current)
        check_refinement(current)
        pretrain(current)
        refine(current)
        distill(current)
        baselines(current)
        results = load_results(current.metrics).results if _evaluated(current) else evaluate(current).results
        return results, report(current)


def _evaluated(current: Run) -> bool:
    """Whether `metrics.json` belongs to the data, the networks and the settings of evaluation that are there now."""
    if not current.metrics.exists():
        return False
    known = measured_already(current)
    if known is None:  # of an older restill
        newest = (current.stage("student") / "model.safetensors").stat().st_mtime
        known = current.metrics.stat().st_mtime >= newest
    return known and was_asked(current.metrics, current.recipe.evaluation.model_dump(mode="json"))
