"""The report of one run: one HTML file that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..core.errors import UserError
from ..core.files import write_text
from ..metrics import Result
from .comparison import compare, number, uncertainties
from .contents import Measurements, ReportData
from .curves import log_curves, stage_times
from .figures import Plot, histogram_svg
from .figures_of_images import GRID_BYTES, HALF_BYTES, nearest_figures, phase_figures, subject_figures
from .protocol import by_key, separate, space_words, words_of
from .table import BEST, heading, legend
from .trust import (
    agreement_sentence,
    agreements,
    check_groups,
    other_warnings,
    trust_sentence,
    urgent,
)
from .verdict import judge
from .words import (
    details,
    is_complex,
    operator_in_words,
    teacher_draws,
    went_in,
    what_is_compared,
)

MAX_BYTES = 5_000_000


def write_report(path: Path, data: ReportData) -> None:
    """Write the report to one HTML file, atomically.

    Raises:
        UserError: no results, images that cannot be shown, or a page of more than 5 MB.
    """
    write_page(path, render(data))


def write_page(path: Path, html: str) -> None:
    """Write a page atomically. Raises UserError if it has more than 5 MB."""
    size = len(html.encode())
    if size > MAX_BYTES:
        raise UserError(f"{path}: a report of {size / 1e6:.1f} MB is too large to send; reduce the number of log rows")
    write_text(path, html)


def template(name: str) -> jinja2.Template:
    """A template of this folder; every value in it is escaped."""
    folder = resources.files(__package__ or "")

    def source(file: str) -> str:
        return folder.joinpath(file).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(style=Markup(source("report.css")), star=BEST, heading=heading, space=space_words)
    return environment.get_template(name)


def render(data: ReportData) -> str:
    """The report as HTML text. Raises UserError as `write_report`."""
    results, left_out = separate(list(data.results))
    verdict = judge(data.results, data.n_measurements, data.corruption)
    budget = HALF_BYTES if data.phases else GRID_BYTES
    table, phases = compare(results), phase_figures(data.phases)
    figures = subject_figures(data.images, data.display_range, data.missing, _captions(data), budget)
    agree = agreements(table)
    return template("report.html").render(
        data=data,
        verdict=verdict,
        groups=check_groups(data.checks),
        trust=trust_sentence(data.checks),
        urgent=urgent(data.checks),
        others=other_warnings(data.checks),
        went_in=went_in(data.n_measurements, data.corruption),
        facts=_facts(data),
        levels=_levels(data.measurements),
        input=figures.pop("measurements", None),
        outputs=list(reversed(figures.values())),
        phases=phases,
        compared=what_is_compared(data.corruption),
        nearest=nearest_figures(data.nearest, data.display_range) if data.nearest is not None else [],
        copy=_copy_distance(data),
        table=table,
        left_out=left_out,
        legend=[legend(results), *uncertainties(table.quality)],
        agreements=[(a.plot, a.metric == "frechet") for a in agree],
        agreement=agreement_sentence(agree),
        curves=log_curves(data.log),
        times=list(stage_times(data.log).items()),
        samplers={result.subject: result.sampler for result in results if result.sampler and result.seeds},
        protocols=_protocols(data.results),
        hashes={**data.hashes, **_references(data.results)},
    )


def _captions(data: ReportData) -> dict[str, str]:
    """Notes on the images of single subjects."""
    draws, known = teacher_draws(data.corruption), data.measurements
    captions = {"teacher-full": draws, "teacher-truncated": draws}
    if is_complex(data.corruption):
        captions["measurements"] = "Shown as zero-filled reconstructions: k-space is 0 where it was not measured."
    elif known is not None and known.image_shape is not None:
        captions["measurements"] = f"Measured on {_times(known.shape)} and shown on the grid of the images."
    return captions


def _facts(data: ReportData) -> list[tuple[str, str]]:
    """The measurements, name by name."""
    known = data.measurements
    facts = [
        ("Measurements", f"{data.n_measurements:,}{_shape(known)}"),
        ("Operator", operator_in_words(data.corruption)),
    ]
    stated = details(data.corruption)
    if known is None:
        return [*facts, *stated]
    bounds = " and ".join(f"{value:g}" for value in known.value_range)
    found = " to ".join(number(value) for value in known.found).replace("-", "−")
    what = "stabilised values" if known.stabilised else "measured values"
    units = f"{bounds} in the files are −1 and 1 here; {what} go from {found}"
    if is_complex(data.corruption):
        units = f"a magnitude of {known.value_range[1]:g} in the files is 1 here; values of k-space go from {found}"
    facts += [("Noise level σₙ", _noise(known)), *stated, ("Units", units)]
    return [*facts, ("From", known.source)] if known.source else facts


def _shape(known: Measurements | None) -> str:
    if known is None:
        return ""
    return f", each {_times(known.shape)}" + (f", of images {_times(known.image_shape)}" if known.image_shape else "")


def _times(shape: Sequence[int]) -> str:
    return " × ".join(str(size) for size in shape)


def _noise(known: Measurements) -> str:
    low, high, mean = min(known.sigma_n), max(known.sigma_n), sum(known.sigma_n) / len(known.sigma_n)
    how = "estimated" if known.estimated else "stated"
    if high == 0:
        return f"0: no noise, {how}"
    if known.stabilised:
        return f"{mean:.4g} of the stabilised counts, nearly the same for any light"
    if known.interval is not None:
        bounds = " to ".join(f"{level:.4g}" for level in known.interval)
        how += f" (95% interval of the set {bounds}; {known.method})"
    if high - low < 1e-6 * high:
        return f"{mean:.4g}, {how}; in the units of the files {mean * known.scale:.4g}"
    scaled = f"{low * known.scale:.4g} to {high * known.scale:.4g}"
    return f"{low:.4g} to {high:.4g}, {mean:.4g} on average, {how}; in the units of the files {scaled}"


def _levels(known: Measurements | None) -> Plot | None:
    """A histogram where measurements differ in their noise."""
    if known is None or max(known.sigma_n) - min(known.sigma_n) <= 1e-6 * max(known.sigma_n):
        return None
    title = "Noise level of each measurement"
    description = f"{title}: {len(known.sigma_n):,} values, {_noise(known)}"
    return Plot(title, histogram_svg(list(known.sigma_n), "σₙ, normalised", "levels"), description)


def _copy_distance(data: ReportData) -> str:
    """How far a measurement of exactly a generated image would be from what its operator measures of that image."""
    known = data.measurements
    if known is None or max(known.sigma_n) == 0:
        return ""
    low, high = min(known.sigma_n), max(known.sigma_n)
    return f"{low:.3g}" if high - low <= 1e-6 * high else f"{low:.3g} to {high:.3g}"


def _protocols(results: Sequence[Result]) -> list[tuple[str, str]]:
    """How each quantity was measured, in words; quantities that were measured alike stand together."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for key, group in by_key(results).items():
        for first in {result.protocol: result for result in reversed(group)}.values():
            seeds = max((result.seeds for result in group if result.protocol == first.protocol), key=len)
            shorts = alike.setdefault((key.reference, key.features, _protocol(first, seeds)), [])
            shorts.append(words_of(key).short)
    against = {"clean": "Against clean images", "measurements": "Proximal"}
    return [
        (f"{against[reference]}, {_lower(space_words(features))}: {', '.join(shorts)}", text)
        for (reference, features, text), shorts in alike.items()
    ]


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]


def _protocol(result: Result, seeds: Sequence[int]) -> str:
    over = f" for each of the seeds {', '.join(map(str, seeds))}" if seeds else ""
    settings = "".join(f"; {name.replace('_', ' ')} {value}" for name, value in sorted(result.settings.items()))
    resize = "" if result.resize == "none" else f"; resized: {result.resize}"
    hashes = f"features {result.features_fingerprint[:12]}, reference {result.reference_fingerprint[:12]}"
    return f"{result.n:,} images{over}{settings}{resize}; {hashes}"


def _references(results: Sequence[Result]) -> Mapping[str, Any]:
    """Hashes of what was compared with, and of the features."""
    found = {f"reference: {result.reference}": result.reference_fingerprint for result in results}
    return found | {f"features: {result.features}": result.features_fingerprint for result in results}
