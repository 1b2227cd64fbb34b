"""Which numbers can be compared: values of one metric that were measured in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..metrics import Result

_METRICS = {  # title, short title, whether lower is better
    "frechet": ("Fréchet distance", "Fréchet", True),
    "frechet-infinity": ("Fréchet distance, extrapolated to infinitely many images,", "Fréchet, n → ∞", True),
    "kid": ("kernel distance (KID)", "KID", True),
    "inception-score": ("Inception score", "Inception score", False),
    "precision": ("precision", "Precision", False),
    "recall": ("recall", "Recall", False),
    "density": ("density", "Density", False),
    "coverage": ("coverage", "Coverage", False),
    "psnr": ("PSNR", "PSNR", False),
    "ssim": ("SSIM", "SSIM", False),
    "lpips": ("LPIPS", "LPIPS", True),
}

_AGAINST = {
    "clean": "clean images", "measurements": "", "clean-half": "half of the clean images",
    "measurements-half": "half of the measurements",
}  # fmt: skip


class Key(NamedTuple):
    """One measured quantity: results with equal keys belong into one row of a table, if they compare."""

    reference: str
    features: str
    metric: str


class Words(NamedTuple):
    """A quantity in words: `title` with reference and features, `short` for a table that names these elsewhere."""

    title: str
    short: str
    lower: bool | None


def key_of(result: Result) -> Key:
    """The quantity that a result measures."""
    return Key(result.reference, result.features, result.metric)


def words_of(key: Key) -> Words:
    """The quantity in words. The better side of a metric that is not known here is not known either (None)."""
    name, short, lower = _METRICS.get(key.metric, (key.metric, key.metric, None))
    if key.features == "pairs":
        return Words(f"{name} of restored measurements", short, lower)
    proximal, distance = key.reference.startswith("measurements"), key.metric in ("frechet", "frechet-infinity", "kid")
    space = ("pixel-space ", "") if key.features == "pixels" else ("", f" in {key.features} features")
    what = _AGAINST.get(key.reference, key.reference)
    against = f" {'to' if distance else 'against'} {what}" if what and key.metric != "inception-score" else ""
    title = f"{'proximal ' if proximal else ''}{space[0]}{name}{against}{space[1]}"
    return Words(title[0].upper() + title[1:], short, lower)


def space_words(features: str) -> str:
    """A feature space as a heading."""
    if features == "pairs":
        return "Image by image"
    return f"In {features}" if features.startswith("pixels") else f"In {features} features"


def by_key(results: Iterable[Result]) -> dict[Key, list[Result]]:
    """Results by quantity: clean references first, pixels first, then as in the list; metrics in the usual order."""
    groups: dict[Key, list[Result]] = {}
    for result in results:
        groups.setdefault(key_of(result), []).append(result)
    spaces, metrics, references = list(dict.fromkeys(key.features for key in groups)), list(_METRICS), list(_AGAINST)

    def place(key: Key) -> tuple[int, bool, int, int]:
        metric = metrics.index(key.metric) if key.metric in metrics else len(metrics)
        return (
            references.index(key.reference),
            not key.features.startswith("pixels"),
            spaces.index(key.features),
            metric,
        )

    return {key: groups[key] for key in sorted(groups, key=place)}


def by_protocol(results: Iterable[Result]) -> list[list[Result]]:
    """Results by how they were measured, in the order of the first of each."""
    groups: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(result.protocol, []).append(result)
    return list(groups.values())


def differences(a: Result, b: Result) -> str:
    """The difference between the protocols of two results, as a clause; empty if they can be compared."""
    if a.protocol == b.protocol:
        return ""
    found = [f"n ({a.n:,} and {b.n:,})"] if a.n != b.n else []
    found += ["the hash of the features"] if a.features_fingerprint != b.features_fingerprint else []
    found += ["the hash of the reference"] if a.reference_fingerprint != b.reference_fingerprint else []
    if a.resize != b.resize:
        found.append(f"resize ({a.resize} and {b.resize})")
    if a.clipping != b.clipping:
        found.append(f"the range to which images are clipped ({a.clipping} and {b.clipping})")
    names = sorted(a.settings.keys() | b.settings.keys())
    settings = [(name, a.settings.get(name, "-"), b.settings.get(name, "-")) for name in names]
    found += [f"the setting {name} ({x} and {y})" for name, x, y in settings if x != y]
    found = found or ["the quantity"]
    return f"{' and '.join(found)} {'differs' if len(found) == 1 else 'differ'}"


def separate(results: Sequence[Result]) -> tuple[list[Result], tuple[str, ...]]:
    """The results that can be compared, and one sentence for each that cannot.

    If one quantity was measured by several protocols, the protocol that includes the student is kept; without a
    student, the one with most subjects.
    """
    left: dict[int, str] = {}
    for key, group in by_key(results).items():
        kept = max(by_protocol(group), key=lambda same: (any(r.subject == "student" for r in same), len(same)))[0]
        for result in group:
            if what := differences(result, kept):
                left[id(result)] = (
                    f"{words_of(key).title}: {result.subject} ({result.value:.3g}) is left out; it cannot be "
                    f"compared with {kept.subject}: {what}."
                )
    return [result for result in results if id(result) not in left], tuple(left.values())
