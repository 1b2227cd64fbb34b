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
from ..corruption import Loss
from ..metrics import Result
from ..store import Store
from .comparison import blocks_of, compare, number, uncertainties
from .contents import ReportData
from .curves import log_curves, stage_times
from .figures import Plot, histogram_svg
from .figures_of_images import budget_of, grid_figure, nearest_figures, phase_figures, subject_figures, triple_figures
from .protocol import by_key, separate, space_words, words_of
from .real import LEGEND, distance, nearest, real_sentences
from .table import BEST, legend
from .trust import agreement_sentence, agreements, check_groups, other_warnings, trust_sentence, urgent
from .verdict import judge
from .words import details, operator_in_words, subject_names, teacher_draws, went_in, what_is_compared

MAX_BYTES = 5_000_000
_CLEAN = "Clean images of the reference, for comparison. Nothing was trained on them."


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
    environment.globals.update(style=Markup(source("report.css")), star=BEST, space=space_words)
    environment.globals.update(distance=distance, nearest_to_real=nearest)
    return environment.get_template(name)


def render(data: ReportData) -> str:
    """The report as HTML text. Raises UserError as `write_report`."""
    corruption, checks = data.store.corruption, data.measured.checks
    results, left_out = separate(data.measured.results)
    table = compare(results)
    clean, triples = data.examples or (None, None)
    budget = budget_of(len(data.images) + len(data.phases) + (clean is not None))
    figures = subject_figures(data.images, data.missing, _captions(data.store), budget)
    agree = agreements(table)
    return template("report.html").render(
        data=data,
        verdict=judge(data.measured.results, len(data.store), corruption),
        groups=check_groups(checks),
        trust=trust_sentence(checks),
        urgent=urgent(checks),
        others=other_warnings(checks),
        went_in=went_in(len(data.store), corruption),
        facts=_facts(data),
        levels=_levels(data.store),
        input=figures.pop("measurements", None),
        outputs=list(reversed(figures.values())),
        phases=phase_figures(data.phases, budget),
        clean=None if clean is None else grid_figure("clean images", clean, len(clean), _CLEAN, budget),
        triples=[] if triples is None else triple_figures(triples),
        restored=triples is not None and triples.restored is not None,
        compared=what_is_compared(corruption),
        nearest=nearest_figures(data.nearest, triples is not None) if data.nearest is not None else [],
        copy=_copy_distance(data.store),
        table=table,
        halves=blocks_of(table.real),
        from_real=real_sentences(table, subject_names(corruption)),
        real_legend=LEGEND,
        left_out=left_out,
        legend=[*filter(None, [table.busy]), legend(table), *uncertainties(table.quality)],
        agreements=[(a.plot, a.metric == "frechet") for a in agree],
        agreement=agreement_sentence(agree),
        curves=log_curves(data.log),
        times=list(stage_times(data.log).items()),
        samplers={result.subject: result.sampler for result in results if result.sampler and result.seeds},
        protocols=_protocols(data.measured.results),
        hashes={**data.hashes, **_references(data.measured.results)},
    )


def _captions(store: Store) -> dict[str, str]:
    """Notes on the images of single subjects."""
    draws = teacher_draws(store.corruption)
    captions = {"teacher-full": draws, "teacher-truncated": draws}
    if store.corruption.is_complex:
        captions["measurements"] = "Shown as zero-filled reconstructions: k-space is 0 where it was not measured."
    elif store.shape != store.image_shape:
        captions["measurements"] = f"Measured on {_times(store.shape)} and shown on the grid of the images."
    return captions


def _facts(data: ReportData) -> list[tuple[str, str]]:
    """The measurements, name by name."""
    store, source = data.store, data.store.manifest.provenance.source
    images = f", of images {_times(store.image_shape)}" if store.shape != store.image_shape else ""
    facts = [
        ("Measurements", f"{len(store):,}, each {_times(store.shape)}{images}"),
        ("Operator", operator_in_words(store.corruption)),
        ("Noise level σₙ", _noise(store)),
        *details(store.corruption),
        ("Units", _units(store, data.found)),
    ]
    return [*facts, ("From", source)] if source else facts


def _units(store: Store, found: tuple[float, float]) -> str:
    low, high = store.manifest.value_range
    values = " to ".join(number(value) for value in found).replace("-", "−")
    if store.corruption.is_complex:
        return f"a magnitude of {high:g} in the files is 1 here; k-space values range from {values}"
    what = "stabilised" if store.corruption.loses(Loss.PHOTONS) else "measured"
    return f"{low:g} and {high:g} in the files are −1 and 1 here; {what} values range from {values}"


def _times(shape: Sequence[int]) -> str:
    return " × ".join(str(size) for size in shape)


def _range(store: Store) -> tuple[float, float, bool]:
    """The smallest and the largest noise level, and whether they are one level."""
    low, high = float(store.sigma_n.min()), float(store.sigma_n.max())
    return low, high, high - low <= 1e-6 * high


def _noise(store: Store) -> str:
    (low, high, one), levels, scale = _range(store), store.sigma_n.tolist(), store.manifest.normalisation.scale
    mean, summary = sum(levels) / len(levels), store.manifest.sigma_n
    how = "estimated" if summary.estimated else "stated"
    if high == 0:
        return f"0: no noise, {how}"
    if store.corruption.loses(Loss.PHOTONS):
        return f"{mean:.4g} of the stabilised counts, almost independent of the signal"
    if summary.estimate is not None:
        bounds = " to ".join(f"{level:.4g}" for level in summary.estimate.interval)
        how += f" (95% interval of the set {bounds}; {summary.estimate.method})"
    if one:
        return f"{mean:.4g}, {how}; in the units of the files {mean * scale:.4g}"
    scaled = f"{low * scale:.4g} to {high * scale:.4g}"
    return f"{low:.4g} to {high:.4g}, {mean:.4g} on average, {how}; in the units of the files {scaled}"


def _levels(store: Store) -> Plot | None:
    """A histogram where measurements differ in their noise."""
    if _range(store)[2]:
        return None
    title = "Noise level of each measurement"
    description = f"{title}: {len(store):,} values, {_noise(store)}"
    return Plot(title, histogram_svg(store.sigma_n.tolist(), "σₙ, normalised", "levels"), description)


def _copy_distance(store: Store) -> str:
    """The distance of a measurement of exactly the generated image from what its operator measures of it: its noise."""
    low, high, one = _range(store)
    if high == 0:
        return ""
    return f"{low:.3g}" if one else f"{low:.3g} to {high:.3g}"


def _protocols(results: Sequence[Result]) -> list[tuple[str, str]]:
    """How each quantity was measured, in words; quantities that were measured alike stand together."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for key, group in by_key(results).items():
        for first in {result.protocol: result for result in reversed(group)}.values():
            seeds = max((result.seeds for result in group if result.protocol == first.protocol), key=len)
            shorts = alike.setdefault((key.reference, key.features, _protocol(first, seeds)), [])
            shorts.append(words_of(key).short)
    against = {
        "clean": "Against clean images",
        "measurements": "Proximal",
        "clean-half": "Against half of the clean images",
        "measurements-half": "Proximal, half of the measurements",
    }
    return [
        (f"{against[reference]}, {words[:1].lower()}{words[1:]}: {', '.join(shorts)}", text)
        for (reference, features, text), shorts in alike.items()
        for words in [space_words(features)]
    ]


def _protocol(result: Result, seeds: Sequence[int]) -> str:
    over = f" for each of the seeds {', '.join(map(str, seeds))}" if seeds else ""
    settings = "".join(f"; {name.replace('_', ' ')} {value}" for name, value in sorted(result.settings.items()))
    resize = "" if result.resize == "none" else f"; resized: {result.resize}"
    clipping = "" if result.clipping == "none" else f"; clipped to {result.clipping}, the range of the files"
    hashes = f"features {result.features_fingerprint[:12]}, reference {result.reference_fingerprint[:12]}"
    return f"{result.n:,} images{over}{settings}{resize}{clipping}; {hashes}"


def _references(results: Sequence[Result]) -> Mapping[str, Any]:
    """Hashes of what was compared with, and of the features."""
    found = {f"reference: {result.reference}": result.reference_fingerprint for result in results}
    return found | {f"features: {result.features}": result.features_fingerprint for result in results}
