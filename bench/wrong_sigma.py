"""What a wrong noise level does to the student: the same measurements, stated with sigma_n too small or too large.

    python bench/wrong_sigma.py digits-noise --factors 0.5 0.8 0.9 1 1.1 1.2 1.5 --out runs/wrong

Training, teacher, sampler and proximal metrics all use the stated level; distances to clean images tell the truth.
Existing runs are continued, so that an interrupted study goes on where it was; prints a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from restill.acquisition import DataSettings, import_measurements, write
from restill.io import array_source
from restill.metrics import Result
from restill.runs import recipe_on_store, run
from restill.runs.recipe_files import Recipe, load_recipe
from restill.runs.run_store import acquisition_of
from restill.store import Store, open_store


def true_store(recipe: Recipe, folder: Path) -> tuple[Store, Path]:
    """The measurements with their true noise level, and the clean reference."""
    store, reference = folder / "true", folder / "clean"
    if not store.exists():
        write(acquisition_of(recipe), store, reference)
    return open_store(store), reference


def misstated(store: Store, factor: float, path: Path) -> Path:
    """The same measurements as a store that states `factor` times their noise level."""
    if not path.exists():
        normalisation = store.manifest.normalisation
        y = store.to_physical(store.batch(torch.arange(len(store))).y).numpy().astype(np.float32)
        source = array_source(y, path.name, layout="NCHW")
        sigma = store.manifest.sigma_n.mean * normalisation.scale * factor
        data = DataSettings(content="measurements", range=store.manifest.value_range)
        import_measurements(source, path, sigma, data)
    return path


def row(factor: float, results: list[Result], spaces: list[tuple[str, str]]) -> str:
    cells = []
    for subject in ("teacher-full", "teacher-truncated", "student"):
        for reference, features in spaces:
            found = [
                r
                for r in results
                if (r.subject, r.metric, r.reference, r.features) == (subject, "frechet", reference, features)
            ]
            cells.append(f"{found[0].value:.3f}" if found else "–")
    return f"| {factor:g} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--factors", nargs="+", type=float, default=[0.5, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    store, reference = true_store(load_recipe(arguments.recipe, arguments.set), arguments.out)
    spaces = [("clean", "pixels"), ("measurements", "pixels")]
    names = [
        f"{s} {'clean' if r == 'clean' else 'proximal'}" for s in ("full", "truncated", "student") for r, _ in spaces
    ]
    print("| stated / true | " + " | ".join(names) + " |\n" + "|---:" * (len(names) + 1) + "|", flush=True)
    for factor in arguments.factors:
        measured = misstated(store, factor, arguments.out / f"stated-{factor:g}")
        settings = [*arguments.set, f"data.reference={reference}", "evaluation.classifier=false"]
        recipe = recipe_on_store(arguments.recipe, measured, settings)
        results, _ = run(recipe, arguments.out / f"run-{factor:g}")
        print(row(factor, results, spaces), flush=True)


if __name__ == "__main__":
    main()
