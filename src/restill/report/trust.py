"""Whether the results can be trusted: checks by status, and the agreement of proximal and clean rankings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ..metrics import Check
from .comparison import Column, Comparison
from .figures import Plot, scatter_svg

_GROUPS = (  # status, symbol, the word for one, the heading
    ("warning", "▲", "Warning", "Warnings"),
    ("ok", "✓", "Passed", "Passed"),
    ("info", "●", "Note", "To know"),
)


@dataclass(frozen=True)
class CheckGroup:
    """Checks of one status, with a symbol and a word, so that the status does not depend on colour."""

    status: str
    symbol: str
    word: str
    heading: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Agreement:
    """One quantity, measured both against clean images and against the measurements.

    Attributes:
        metric: its name in `metrics.json`.
        agrees: whether the two rank the subjects alike.
        plot: a point for each subject; its sentence says how the two rank them.
    """

    metric: str
    agrees: bool
    plot: Plot


def check_groups(checks: Sequence[Check]) -> tuple[CheckGroup, ...]:
    """The checks by status, warnings first, those on teachers last; a status without checks has no group."""
    ordered = [check for about in (True, False) for check in checks if _first(check) is about]
    groups = (
        CheckGroup(status, symbol, word, heading, tuple(check for check in ordered if check.status == status))
        for status, symbol, word, heading in _GROUPS
    )
    return tuple(group for group in groups if group.checks)


def trust_sentence(checks: Sequence[Check]) -> str:
    """The summary of the checks in one sentence."""
    counts = {group.status: len(group.checks) for group in check_groups(checks)}
    warnings, passed = counts.get("warning", 0), counts.get("ok", 0)
    tested = warnings + passed
    if not tested:
        return "Not checked: this run has no check that can pass or fail."
    if warnings:
        verb, checks_ = "warns" if warnings == 1 else "warn", "check" if tested == 1 else "checks"
        about = "" if urgent(checks) else ", only about teachers"
        return f"{warnings} of {tested} {checks_} {verb}{about}: read this before you rely on the numbers."
    return f"{'The only check' if tested == 1 else f'All {tested} checks'} passed."


def urgent(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Warnings on the student or on the data, to be read first; all warnings of a run whose student was not checked."""
    warnings = [check for check in checks if check.status == "warning"]
    if not any(check.subject == "student" for check in checks):
        return tuple(warnings)
    return tuple(check for check in warnings if _first(check))


def other_warnings(checks: Sequence[Check]) -> str:
    """Warnings that are not urgent, by name in one sentence; empty where there are none."""
    read = urgent(checks)
    rest = [check for check in checks if check.status == "warning" and check not in read]
    names: dict[str, list[str]] = {}
    for check in rest:
        names.setdefault(str(check.subject), []).append(check.name.replace("-", " "))
    listed = "; ".join(f"{subject}: {', '.join(found)}" for subject, found in names.items())
    return f"{len(rest)} on teachers ({listed})." if rest else ""


def _first(check: Check) -> bool:
    return check.subject in (None, "student")


def agreements(comparison: Comparison) -> tuple[Agreement, ...]:
    """For every quantity that was measured against clean images and proximally, whether both rank alike."""
    columns = {column.key: column for column in comparison.quality}
    found: list[Agreement] = []
    for key, clean in columns.items():
        proximal = columns.get(key._replace(reference="measurements"))
        if key.reference == "clean" and proximal is not None and clean.words.lower is not None:
            subjects = [name for name in comparison.subjects if name in clean.values and name in proximal.values]
            if len(subjects) > 1:
                found.append(_agreement(clean, proximal, subjects, f"agreement-{len(found)}"))
    return tuple(found)


def _agreement(clean: Column, proximal: Column, subjects: Sequence[str], name: str) -> Agreement:
    points = {subject: (proximal.values[subject], clean.values[subject]) for subject in subjects}
    spreads = {subject: (proximal.stds.get(subject, 0.0), clean.stds.get(subject, 0.0)) for subject in subjects}
    title = f"{clean.words.short} in {clean.key.features}"
    parts = (f"{subject}: proximal {proximal.cell(subject)}, clean {clean.cell(subject)}" for subject in subjects)
    sentence, agrees = _ranking(clean, proximal, subjects)
    description = f"{title}: the proximal value of each subject and its value against clean images. {'; '.join(parts)}"
    svg = scatter_svg(points, spreads, "proximal", "against clean images", name)
    return Agreement(clean.key.metric, agrees, Plot(title, svg, description, sentence))


def agreement_sentence(found: Sequence[Agreement]) -> str:
    """For how many quantities the two rankings agree."""
    if not found:
        return "Unknown: no metric was measured both against clean images and against the measurements."
    if len(found) == 1:
        return f"{found[0].plot.title} was measured both ways: {found[0].plot.sentence}"
    alike = sum(agreement.agrees for agreement in found)
    return f"{len(found)} quantities were measured both ways; the rankings agree for {alike or 'none'} of them."


def _ranking(clean: Column, proximal: Column, subjects: Sequence[str]) -> tuple[str, bool]:
    orders = [_order(column, subjects) for column in (proximal, clean)]
    apart = [pair for pair in itertools.combinations(subjects, 2) if _sign(proximal, *pair) != _sign(clean, *pair)]
    if not apart:
        return f"the proximal ranking agrees with the clean one ({orders[0]}, from best to worst).", True
    vague = " (a difference within the uncertainty)"
    pairs = [f"{a} and {b}{'' if proximal.clear(a, b) and clean.clear(a, b) else vague}" for a, b in apart]
    text = f"the proximal ranking ({orders[0]}) differs from the clean one ({orders[1]}) in the order of"
    return f"{text} {'; of '.join(pairs)}.", False


def _order(column: Column, subjects: Sequence[str]) -> str:
    ranked = sorted(subjects, key=lambda name: column.values[name], reverse=column.words.lower is False)
    return ", ".join(ranked)


def _sign(column: Column, a: str, b: str) -> int:
    return column.beats(a, b) - column.beats(b, a)
