"""What the choice by the proximal distance is worth: finished runs with a clean reference, as a Markdown table.

    python bench/compare.py digits-noise --seeds 0 1 2 --out runs/seeds
    python bench/selection.py runs/seeds/as-shipped-*

Each run's snapshots are measured as by `restill select RUN --reference RUN/reference`, which continues where it was.
The clean images choose nothing: the oracle's best is the smallest distance to them, whatever the proximal distance. The
rank correlation is over all checkpoints.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scipy.stats import spearmanr

from restill.runs import amended, working_on
from restill.runs.selecting import LENGTHS, select
from restill.selection import Candidate


def label(candidate: Candidate) -> str:
    """Images and length of the average, in a cell."""
    return f"{candidate.images:,}, {'own' if candidate.sigma_rel is None else f'{candidate.sigma_rel:g}'}"


def row(path: Path, lengths: list[float]) -> list[str]:
    """One run's cells."""
    with working_on(path, amended(path)) as run:
        choice = select(run, run.reference, lengths)
    best, oracle = choice.best, choice.oracle
    assert oracle is not None and best.clean is not None and oracle.clean is not None
    proximal, clean = zip(*((c.proximal, c.clean) for c in choice.candidates), strict=True)
    return [
        str(run.recipe.seed),
        label(best),
        f"{best.proximal:.3f} ± {best.error:.3f}",
        f"{best.clean:.3f}",
        f"{oracle.clean:.3f} ({label(oracle)})",
        f"{best.clean / oracle.clean:.3f}",
        f"{spearmanr(proximal, clean).statistic:.3f} (n = {len(clean)})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--sigma-rel", type=float, nargs="+", default=list(LENGTHS))
    arguments = parser.parse_args()
    rows = [row(path, arguments.sigma_rel) for path in arguments.runs]
    print("| seed | chosen (images, sigma_rel) | proximal | clean | oracle's best clean | ratio | Spearman |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for cells in rows:
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
