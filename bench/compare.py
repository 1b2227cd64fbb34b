"""Runs a recipe in several variants and seeds, one after the other, and prints the results as a Markdown table.

    python bench/compare.py digits-noise --seeds 0 1 2 --out runs/seeds
    python bench/compare.py digits-noise --out runs/floor --teacher-only \\
        --variant 'truncated' --variant 'clamped: objective.floor=clamp objective.c_min=1'

Each run is an ordinary run directory under `--out`; an interrupted comparison continues. Values are the mean and the
standard deviation over the sampling seeds of a run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from restill.metrics import Result, load_results
from restill.runs import distill, evaluate, prepare_store, pretrain, report, working_on
from restill.runs.recipe_files import load_recipe

SUBJECTS = ("measurements", "teacher-full", "teacher-truncated", "student")


def one_run(recipe: str, out: Path, overrides: list[str], teacher_only: bool) -> tuple[list[Result], float]:
    """Results of a run, and its seconds in this process."""
    started = time.perf_counter()
    with working_on(out, load_recipe(recipe, overrides)) as run:
        prepare_store(run)
        pretrain(run)
        if not teacher_only:
            distill(run)
        results = (load_results(run.metrics) if run.metrics.exists() else evaluate(run)).results
        report(run)
    return results, time.perf_counter() - started


def cells(results: list[Result], subject: str) -> list[str]:
    """Frechet distances of a subject: pixels, classifier, proximal."""
    texts = []
    for reference, features in (("clean", "pixels"), ("clean", "classifier"), ("measurements", "pixels")):
        found = [
            r
            for r in results
            if (r.subject, r.metric, r.reference, r.features) == (subject, "frechet", reference, features)
        ]
        texts.append(f"{found[0].value:.3f}" + (f" ± {found[0].std:.3f}" if found[0].std else "") if found else "–")
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variant", action="append", metavar="'LABEL: KEY=VALUE ...'", help="repeatable")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all variants")
    parser.add_argument("--teacher-only", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        for variant in arguments.variant or ["as shipped"]:
            label, _, keys = variant.partition(":")
            overrides = [*arguments.set, *keys.split(), f"seed={seed}"]
            out = arguments.out / f"{label.strip().replace(' ', '-')}-{seed}"
            results, seconds = one_run(arguments.recipe, out, overrides, arguments.teacher_only)
            present = [s for s in SUBJECTS if any(r.subject == s and not r.of_half for r in results)]
            for subject in present:
                took = f"{seconds:.0f} s" if subject == present[-1] else ""
                rows.append([label.strip(), str(seed), subject, *cells(results, subject), took])
    print("| variant | seed | subject | Fréchet pixels | Fréchet classifier | proximal Fréchet | run |")
    print("|---|---|---|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
