"""Several runs on one page: verdicts, a table for each quantity, images, and what differs between the recipes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import UserError
from ..metrics import SUBJECTS, Result
from .comparison import ARROWS, RATE, Column, Comparison, best_of, compare, marked, uncertainties
from .contents import RunData
from .curves import overlay, stage_times
from .figures_of_images import Figure, grid_figure
from .page import template, write_page
from .protocol import by_key, by_protocol, differences, separate, words_of
from .trust import other_warnings, trust_sentence, urgent
from .verdict import judge

GENERATOR = "restill comparison"
_GRID_BYTES = 1_600_000  # of raw pixels, all grids of the page together
_SHOWN = 36
_CURVES = (("student", "proximal_frechet"), ("student", "score_gap"), ("teacher", "loss"))


@dataclass(frozen=True)
class RunTable:
    """One quantity of several runs.

    Attributes:
        title: in words, with an arrow to the better side.
        labels: of the runs, which are the columns.
        rows: subject, and for each run the value as text and whether it is the best of the row.
        shown: what numbers in these features can show; may be empty.
    """

    title: str
    labels: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]
    shown: str = ""


def write_comparison(
    path: Path,
    runs: Sequence[RunData],
    differences: Sequence[tuple[str, Sequence[str]]],
    shown: Mapping[str, str],
    versions: Mapping[str, str],
    command: str,
) -> None:
    """Write the page that compares runs, atomically; an earlier such page is replaced.

    Args:
        runs: at least two.
        differences: keys in which the recipes differ, each with its value in every run, as text.
        shown: as in `ReportData`.
        versions: of the software that writes the page, by name.
        command: that writes the page.

    Raises:
        UserError: fewer than two runs, two of one label, no results, images that cannot be shown, or another file at
            `path`.
    """
    check_replaceable(path)
    labels = [run.label for run in runs]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UserError(f"a comparison needs two or more runs with different names, not {', '.join(labels) or 'none'}")
    about = {"labels": labels, "differences": differences, "versions": versions, "command": command}
    write_page(path, template("comparison.html").render(generator=GENERATOR, **about, **_contents(runs, shown)))


def check_replaceable(path: Path) -> None:
    """Raises UserError if there is anything at `path` but an earlier page that compares runs."""
    if path.exists() and not _is_comparison(path):
        raise UserError(f"{path}: already exists and was not written by restill as a comparison; choose another --out")


def _is_comparison(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return f'<meta name="generator" content="{GENERATOR}">' in file.read(2000)
    except (OSError, UnicodeDecodeError):
        return False


def _contents(runs: Sequence[RunData], shown: Mapping[str, str]) -> dict[str, object]:
    """What the template shows of the runs."""
    kept = {run.label: separate(run.measured.results) for run in runs}
    comparisons = _alike_marked({label: compare(results) for label, (results, _) in kept.items()})
    tables, apart = _tables({label: results for label, (results, _) in kept.items()}, comparisons, shown)
    left_out = [f"{label}: {sentence}" for label, (_, sentences) in kept.items() for sentence in sentences]
    logs = {run.label: run.log for run in runs}
    curves = [curve for stage, name in _CURVES if (curve := overlay(logs, stage, name)) is not None]
    titles = {table.title.rstrip(" ↑↓") for table in tables}
    columns = [c for comparison in comparisons.values() for c in comparison.quality if c.words.title in titles]
    times = {
        label: "; ".join(f"{stage} {text}" for stage, text in stage_times(log).items()) for label, log in logs.items()
    }
    return {
        "runs": [_summary(run) for run in runs],
        "tables": tables,
        "speed": _speed(comparisons),
        "times": [(label, words) for label, words in times.items() if words],
        "apart": [*apart, *left_out],
        "legend": uncertainties(columns),
        "figures": _figures(runs),
        "curves": curves,
    }


def _summary(run: RunData) -> dict[str, object]:
    """What a run says by itself."""
    corruption, checks = run.store.corruption, run.measured.checks
    verdict = judge(run.measured.results, len(run.store), corruption)
    return {
        "label": run.label,
        "status": {True: "ok", False: "warning", None: "info"}[verdict.wins],
        "answer": verdict.answer,
        "input": f"{len(run.store):,} measurements with {corruption.in_words()}.",
        "trust": trust_sentence(checks),
        "warnings": [*(check.sentence for check in urgent(checks))],
        "others": other_warnings(checks),
    }


def _alike_marked(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """With marks of uncertainties that mean the same in all runs."""
    columns = iter(marked([column for comparison in comparisons.values() for column in comparison.quality]))
    return {
        label: dataclasses.replace(comparison, quality=tuple(next(columns) for _ in comparison.quality))
        for label, comparison in comparisons.items()
    }


def _tables(
    results: Mapping[str, Sequence[Result]], comparisons: Mapping[str, Comparison], shown: Mapping[str, str]
) -> tuple[list[RunTable], list[str]]:
    """A table for each quantity that several runs measured by one protocol, and a sentence for what has no place."""
    tables: list[RunTable] = []
    sentences: list[str] = []
    alone: dict[str, list[str]] = {}
    columns = {label: {c.key: c for c in comparison.quality} for label, comparison in comparisons.items()}
    for key in by_key([result for group in results.values() for result in group]):
        if not any(key in found for found in columns.values()):  # against one half of a reference
            continue
        first = {label: found[key][0] for label, group in results.items() if key in (found := by_key(group))}
        labels, reasons = _comparable(first)
        title = words_of(key).title
        if len(labels) > 1:
            chosen = {label: columns[label][key] for label in labels}
            tables.append(_table(title, chosen, shown.get(key.features, "")))
        elif not reasons:
            alone.setdefault(labels[0], []).append(title)
        sentences += [f"{title}: {reason}" for reason in reasons]
    return tables, [*sentences, *(f"Measured in {label} alone: {'; '.join(found)}." for label, found in alone.items())]


def _comparable(first: Mapping[str, Result]) -> tuple[tuple[str, ...], list[str]]:
    """The runs whose results share the commonest protocol, and for each other one why it is not among them."""
    alike = max(by_protocol(first.values()), key=len)
    labels = [label for label, result in first.items() if result in alike]
    reasons = [
        f"{label} cannot be compared with {labels[0]}: {differences(result, first[labels[0]])}."
        for label, result in first.items()
        if label not in labels
    ]
    return tuple(labels), reasons


def _table(title: str, columns: Mapping[str, Column], shown: str) -> RunTable:
    lower, rows = next(iter(columns.values())).words.lower, []
    for subject in SUBJECTS:
        best = best_of({label: c.values[subject] for label, c in columns.items() if subject in c.values}, lower)
        if any(subject in column.values for column in columns.values()):
            rows.append((subject, tuple((column.cell(subject), label in best) for label, column in columns.items())))
    return RunTable(f"{title} {ARROWS[lower]}".rstrip(), tuple(columns), tuple(rows), shown)


def _speed(comparisons: Mapping[str, Comparison]) -> RunTable | None:
    columns = {label: column for label, done in comparisons.items() if (column := done.clock(RATE)) is not None}
    return _table("Images per second", columns, "") if len(columns) > 1 else None


def _figures(runs: Sequence[RunData]) -> list[Figure]:
    """The students' grids, equally many images of each."""
    trained = [run for run in runs if "student" in run.images]
    count = min((min(len(run.images["student"]), _SHOWN) for run in trained), default=0)
    captions = ("The student's first images.", "Magnitudes of the student's first images.")
    return [
        grid_figure(
            run.label,
            run.images["student"],
            count,
            captions[run.store.corruption.is_complex],
            _GRID_BYTES // len(trained),
        )
        for run in trained
    ]
