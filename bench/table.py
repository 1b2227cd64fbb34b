"""The table of corruptions in docs/benchmarks.md: every row is an ordinary run, and all of them are resumable.

    nohup python bench/table.py --out runs/table --photographs cifar10-test.tar.xz --brains brain-mri-128.npz &
    python bench/table.py --out runs/table --print

Rows run in the order of `rows()`, those that matter most first, `--jobs` at a time with one thread each (two such runs
do more than one with two threads). A row that is finished is not run again, one that was interrupted continues. Values
are of the whole evaluation of a run (`metrics.json`), minutes those of this command, evaluation and report included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from restill.metrics import Result, load_results

SUBJECTS = ("measurements", "l1-wavelet", "l1-edm", "teacher-full", "teacher-truncated", "student")
SETS = ("digits", "photographs", "brains")
COLUMNS = (  # title, reference, features, metric
    ("Fréchet pixels", "clean", "pixels", "frechet"),
    ("Fréchet classifier", "clean", "classifier", "frechet"),
    ("precision", "clean", "classifier", "precision"),
    ("recall", "clean", "classifier", "recall"),
    ("proximal Fréchet", "measurements", "pixels", "frechet"),
)


@dataclass(frozen=True)
class Row:
    """One run: which images, in words what happened to them, which recipe with which settings, and its budget."""

    images: str
    title: str
    recipe: str
    settings: tuple[str, ...] = ()
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its directory."""
        words = self.title.replace("+ ", "").replace(".", "").replace("/", "-")
        return "-".join([self.images, *words.replace("= ", "").replace(",", "").split(), str(self.seed)])


def _of(images: str) -> list[Row]:
    shared: tuple[str, ...]
    prefix = {"digits": "digits", "photographs": "tiny"}[images]
    noise = "corruption.sigma_n="
    if images == "digits":  # digits-noise as shipped is the demonstration, whose student is distilled in less time
        shared, noisy = (), ("student.images=160000", "student.select_every=8000")
        masked = shared
        weak = (*noisy, "objective.p_mean=-0.5", "objective.p_std=1.4")
    else:  # shorter than shipped, for the time that all rows may take
        shared = noisy = weak = ("teacher.images=80000", "student.images=56000", "student.select_every=5600")
        masked = (*shared, "objective.p_mean=-0.5", "objective.p_std=1.4")
    return [
        Row(images, "noise .4", f"{prefix}-noise", (noise + "0.4", *noisy)),
        Row(images, "inpainting .8", f"{prefix}-inpainting", ("corruption.p=0.8", *masked)),
        Row(images, "noise .2", f"{prefix}-noise", (noise + "0.2", *weak)),
        Row(images, "inpainting .6", f"{prefix}-inpainting", ("corruption.p=0.6", *masked)),
        Row(images, "inpainting .9", f"{prefix}-inpainting", ("corruption.p=0.9", *masked)),
        Row(images, "inpainting .6 + noise .2", f"{prefix}-inpainting", ("corruption.p=0.6", noise + "0.2", *masked)),
        Row(images, "blur", f"{prefix}-deblurring", shared),
        Row(images, "blur + noise .2", f"{prefix}-deblurring", (noise + "0.2", *shared)),
        Row(images, "downsampling x2", f"{prefix}-superresolution", shared),
        Row(images, "downsampling x2 + noise .2", f"{prefix}-superresolution", (noise + "0.2", *shared)),
    ]


def _of_brains() -> list[Row]:
    """Undersampled k-space of four coils; two centre lines, as eight-fold acceleration leaves only four in all."""
    rows = []
    longer = ("teacher.images=64000", "student.images=32000", "student.select_every=8000", "baselines.l1_edm=true")
    for acceleration in (4, 2, 6, 8):
        settings = (f"corruption.acceleration={acceleration}", "corruption.acs=2", *longer)
        rows.append(Row("brains", f"R = {acceleration}", "brain-mri-tiny", settings))
    return [*rows, Row("brains", "64x64, R = 4", "brain-mri-small", ("corruption.acceleration=4",))]


def rows() -> list[Row]:
    """All rows, in the order in which they are run."""
    digits, photographs = _of("digits"), _of("photographs")
    seeds = [Row(row.images, row.title, row.recipe, row.settings, seed) for seed in (1, 2) for row in digits[:2]]
    others = [row for pair in zip(digits[2:], photographs[2:], strict=True) for row in pair]
    return [*digits[:2], *photographs[:2], *others, *seeds, *_of_brains()]


def run(row: Row, out: Path, files: Mapping[str, str | None]) -> None:
    """Run or continue a row, and add up its minutes.

    Args:
        files: where the images of `photographs` and `brains` lie.
    """
    folder, clock = out / row.name, out / f"{row.name}.json"
    if (folder / "report.html").exists():
        return
    settings = [*row.settings, f"seed={row.seed}"]
    if row.images in files:
        settings.append(f"data.source={files[row.images]}")
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "restill", "run", row.recipe, "--out", str(folder), *words]
    before, started, code = json.loads(clock.read_text())["seconds"] if clock.exists() else 0.0, time.time(), None
    with (out / f"{row.name}.log").open("a") as log:
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)
        while code is None:  # the clock is kept while a row runs, so that being killed loses seconds, not minutes
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=10)
            seconds = before + time.time() - started
            clock.write_text(json.dumps({"seconds": seconds}))
    sys.stderr.write(f"{row.name}: {'done' if code == 0 else f'exit code {code}'}, {seconds / 60:.1f} min\n")


def cell(results: list[Result], subject: str, reference: str, features: str, metric: str) -> str:
    """A value with its uncertainty over sampling seeds, where there are several."""
    for r in results:
        if (r.subject, r.reference, r.metric) == (subject, reference, metric) and r.features == features:
            spread = f" ± {r.std:.2g}" if r.std and r.uncertainty == "seeds" else ""
            return f"{r.value:.3g}{spread}"
    return "–"


def table(out: Path) -> str:
    """Everything that is finished, as Markdown."""
    lines = [f"| corruption | seed | subject | {' | '.join(title for title, *_ in COLUMNS)} | minutes |"]
    lines.append(f"|---|---:|---|{'---:|' * (len(COLUMNS) + 1)}")
    for images in SETS:
        for row in sorted((r for r in rows() if r.images == images), key=_place):
            folder = out / row.name
            if not (folder / "metrics.json").exists():
                continue
            results = load_results(folder / "metrics.json").results
            minutes = json.loads((out / f"{row.name}.json").read_text())["seconds"] / 60
            for subject in SUBJECTS:
                values = [cell(results, subject, *column) for _, *column in COLUMNS]
                if any(value != "–" for value in values):
                    first = subject == SUBJECTS[0]
                    head = (f"{images}: {row.title}", str(row.seed)) if first else ("", "")
                    took = f"{minutes:.1f}" if first else ""
                    lines.append(f"| {' | '.join([*head, subject, *values, took])} |")
    return "\n".join(lines)


def _place(row: Row) -> tuple[int, int]:
    own = _of_brains() if row.images == "brains" else _of(row.images)
    return [r.title for r in own].index(row.title), row.seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photographs", help="images for the rows of photographs; without it only digits")
    parser.add_argument("--brains", help="magnitude images for the rows of MRI; without it none of these")
    parser.add_argument("--only", help="rows whose directory's name contains this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--print", action="store_true", help="print what is finished, run nothing")
    parser.add_argument("--grids", type=Path, help="copy the sample grids of finished rows to this folder")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wanted = [row for row in rows() if arguments.only is None or arguments.only in row.name]
    files = {"photographs": arguments.photographs, "brains": arguments.brains}
    wanted = [row for row in wanted if row.images == "digits" or files[row.images]]
    if not arguments.print:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda row: run(row, arguments.out, files), wanted))
    for row in rows():
        picture = arguments.out / row.name / "samples" / "overview.png"
        if arguments.grids and picture.exists() and row.seed == 0:
            arguments.grids.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, arguments.grids / f"{row.name.removesuffix('-0')}.png")
    print(table(arguments.out))


if __name__ == "__main__":
    main()
