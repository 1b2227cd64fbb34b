"""Figures and the page: pixels are where they belong, nothing leaves the file, nothing in it is trusted."""

import base64
import dataclasses
import html
import itertools
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

import restill.report
from restill.checks.nearest import Nearest
from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.corruption import Mask, Poisson
from restill.metrics import Check, Measured, Result
from restill.report import ReportData, grid, line_svg, png_bytes, write_report
from test_report_table import ALL, PIXELS, results, stored

ROWS = [
    *({"stage": "teacher", "step": k, "images": 64 * k, "loss": 100 / k, "grad_norm": 1.0} for k in range(1, 40)),
    *({"stage": "student", "step": k, "images": 64 * k, "loss": math.nan if k == 3 else 1.0 * k} for k in range(30)),
    {"stage": "student", "step": 0, "images": 0, "proximal_frechet": 2.0},
    {"stage": "student", "step": 9, "images": 576, "proximal_frechet": 1.0},
    {"event": "resumed"},
]


def data(shape: tuple[int, ...] = (70, 1, 8, 8)) -> ReportData:
    images = torch.rand(shape, generator=seeded("test-report")) * 2 - 1
    return ReportData(
        "digits", Measured(ALL, []), stored(), dict.fromkeys(PIXELS, images), ROWS, recipe="data:\n  name: digits\n",
        versions={"torch": "2.13.0"}, seeds={"data": 7},
    )  # fmt: skip


def changed(report: ReportData, results: list[Result] | None = None, checks: list[Check] | None = None) -> ReportData:
    """A report of other results or checks."""
    old = report.measured
    new = Measured(old.results if results is None else results, old.checks if checks is None else checks)
    return dataclasses.replace(report, measured=new)


CHECKS = [
    Check(name="hidden-share", value=0.0, status="ok", sentence="Nothing is hidden by every operator."),
    Check(name="memorisation", subject="student", value=-3.0, status="warning", sentence="It copies: z = -3."),
    Check(name="likelihood", subject="student", value=0.1, status="info", sentence="As likely as its own images."),
]


def full() -> ReportData:
    """With everything that a report can show."""
    generator = seeded("test-report-full")
    levels = torch.rand(1797, generator=generator) * 0.2 + 0.1
    images = torch.rand(6, 3, 1, 8, 8, generator=generator) * 2 - 1
    return dataclasses.replace(
        data(),
        measured=Measured(ALL + results(PIXELS, reference="measurements", std=0.01), CHECKS),
        store=stored(levels=levels.tolist(), source="scans", estimate=(0.19, 0.21)),
        found=(-2.5, 2.25),
        nearest=Nearest(images[:, 0], images[:, 1:], torch.rand(6, 2, generator=generator)),
        shown={"pixels": "Pixels see noise."},
        command="restill run recipe.yaml --out again",
        hashes={"student": "abc"},
    )


def page(path: Path, report: ReportData) -> str:
    write_report(path, report)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((5, 1, 8, 8), (3 * 32 + 4, 2 * 32 + 2)),
        ((1, 3, 8, 6), (24, 32)),
        ((4, 2, 64, 40), (162, 130)),
        ((1, 5, 16, 16), (48, 32)),
        ((2, 4, 20, 20), (82, 40)),
    ],
)
def test_grids_have_integer_enlarged_cells(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    assert grid(torch.zeros(shape)).size == size


def test_grid_shows_values_where_and_as_they_are() -> None:
    images = torch.tensor([-1.0, 0.0, 1.0, 7.0])[:, None, None, None].expand(4, 1, 2, 2)
    picture = np.asarray(grid(images, columns=2, min_size=2))
    assert picture.shape == (6, 6, 2)
    assert [int(picture[r, c, 0]) for r, c in ((0, 0), (0, 4), (4, 0), (4, 4))] == [0, 128, 255, 255]
    assert picture[2, 2, 1] == 0  # the gap is transparent
    mosaic = np.asarray(grid(torch.tensor([-1.0, 1.0, 1.0, -1.0])[None, :, None, None], min_size=1))
    assert mosaic[..., 0].tolist() == [[0, 255], [255, 0]]
    five = np.asarray(grid(torch.linspace(1, -0.2, 5)[None, :, None, None], min_size=1))
    assert five[..., 0].tolist() == [[255, 217, 179], [140, 102, 0]]
    red = np.asarray(grid(torch.tensor([1.0, -1.0, -1.0])[None, :, None, None], min_size=1))
    assert red[0, 0].tolist() == [255, 0, 0, 255]


def test_grid_refuses_what_it_cannot_show() -> None:
    for images in (torch.zeros(0, 1, 8, 8), torch.zeros(2, 8, 8), torch.full((1, 1, 8, 8), math.nan)):
        with pytest.raises(UserError, match="a grid"):
            grid(images)


def test_line_plots_are_valid_deterministic_and_leave_no_trace() -> None:
    before = dict(matplotlib.rcParams)
    series = {"$x^ <a>": [(0.0, 1.0), (1.0, math.nan), (2.0, 3.0)], "b": [(0.0, 2.0), (2.0, 2.5)]}
    first, second = line_svg(series, "x & y", "$", "one"), line_svg(series, "x & y", "$", "two")
    assert first == line_svg(series, "x & y", "$", "one")
    assert dict(matplotlib.rcParams) == before
    texts = [element.text for element in ET.fromstring(first).iter("{http://www.w3.org/2000/svg}text")]
    assert {"$x^ <a>", "b", "x & y", "$"} <= set(texts)
    identifiers = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert not identifiers[0] & identifiers[1]
    for svg, known in zip((first, second), identifiers, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)) <= known
    with pytest.raises(UserError, match="cannot be plotted"):
        line_svg({"a": [(0.0, math.nan)]}, "x", "y", "none")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.alts: list[str | None] = []
        self.anchors: set[str] = set()
        self.headings: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
        self.anchors.add(known.get("id") or "")
        self.headings += [int(tag[1])] if tag in ("h1", "h2", "h3", "h4") else []
        self.targets += [known[key] or "" for key in ("src", "href", "xlink:href", "srcset", "action") if key in known]
        if tag == "img":
            self.alts.append(known.get("alt"))


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", data())
    links = _Links()
    links.feed(text)
    assert not {"script", "link", "iframe", "object", "embed"} & set(links.tags)
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in links.targets)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(links.alts) == 4
    assert all(links.alts)
    assert text.count("<h1") == 1
    first = base64.b64decode(next(target for target in links.targets if target.startswith("data:"))[22:])
    assert first == png_bytes(grid(data().images["measurements"][:64], 8))


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    text = html.unescape(page(tmp_path / "report.html", data()))
    for words in (
        "The student beats both teachers",
        "From 1,797 measurements with noise 0.4",
        "Where the student does not win",
        "teacher-truncated 6.60",
        "name: digits",
        "2.13.0",
        "prefers-color-scheme: dark",
        "@media print",
    ):
        assert words in text
    lost = changed(data(), results({**PIXELS, "student": 1.0}))
    assert "does not beat" in page(tmp_path / "lost.html", lost)
    unmeasured = dataclasses.replace(changed(data(), results({"student": 1.0})), images={}, log=())
    assert "no verdict" in page(tmp_path / "open.html", unmeasured)


def test_every_part_is_shown(tmp_path: Path) -> None:
    text = html.unescape(page(tmp_path / "report.html", full()))
    for words in (
        "What went in", "What came out", "How good", "Can I trust it", "How it went", "How to reproduce",
        "1,797, each 1 × 8 × 8", "0.1 to 0.3",
        "estimated (95% interval of the set 0.19 to 0.21; by eye); in the units of the files 0.8",
        "−2.50 to 2.25", "scans",
        "Noise level of each measurement", "Generated image 6; to its right the nearest 2 measurements",
        "In pixels", "Pixels see noise.", "the proximal ranking agrees with the clean one (student, teacher-truncated",
        "teacher: loss", "restill run recipe.yaml --out again", "features: classifier", "1,000 images",
    ):  # fmt: skip
        assert words in text, words
    assert "not checked" not in text.lower()


def test_times_come_from_the_log(tmp_path: Path) -> None:
    rows = [{"stage": "teacher", "images": k, "loss": 1.0, "time": f"2026-01-01T00:0{k}:00+00:00"} for k in range(6)]
    text = page(tmp_path / "report.html", dataclasses.replace(data(), log=rows))
    assert "The teacher took 5 min 00 s for 5 images" in text
    without = page(tmp_path / "other.html", data())
    assert "does not say how long" in without and "There is no log" not in without


def test_checks_come_with_symbol_and_word_and_warnings_first_and_twice(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", full())
    assert text.count("1 of 2 checks warns") == 2
    top, trust = text.split('<main id="content"')[0], text.split('id="trust"')[1]
    assert "It copies: z = -3." in top and "▲" in top and "Warning" in top and "Nothing is hidden" not in top
    order = [trust.index(words) for words in ("It copies", "Nothing is hidden", "As likely")]
    assert order == sorted(order)
    for symbol, word in (("✓", "Passed"), ("●", "Note")):
        assert re.search(f"{symbol}</span> {word}", trust)
    teacher = CHECKS[1].model_copy(update={"subject": "teacher-full"})
    theirs = page(tmp_path / "theirs.html", changed(full(), checks=[*CHECKS[::2], teacher]))
    top, trust = theirs.split('<main id="content"')
    assert "1 of 2 checks warns, only about teachers" in top and "It copies" in trust and "It copies" not in top
    assert "1 on teachers (teacher-full: memorisation)." in top and "▲" in top
    alone = page(tmp_path / "alone.html", changed(full(), checks=[CHECKS[0], teacher]))
    assert "It copies" in alone.split('<main id="content"')[0]  # the student was not checked: all there is comes first
    unchecked = page(tmp_path / "unchecked.html", changed(full(), checks=CHECKS[2:]))
    assert unchecked.count("Not checked:") == 2
    passed = page(tmp_path / "passed.html", changed(full(), checks=CHECKS[:1]))
    assert "The only check passed." in passed and "Warning" not in passed


def test_the_ranking_sentence_follows_the_numbers(tmp_path: Path) -> None:
    proximal = {**PIXELS, "teacher-full": 0.1}
    other = changed(full(), ALL + results(proximal, reference="measurements", std=0.001))
    text = html.unescape(page(tmp_path / "report.html", other))
    assert "(teacher-full, student, teacher-truncated, measurements) differs from the clean one (student," in text
    assert "in the order of teacher-full and teacher-truncated; of teacher-full and student." in text
    vague = changed(other, ALL + results(proximal, reference="measurements", std=9.0))
    assert "a difference within the uncertainty" in page(tmp_path / "vague.html", vague)
    assert "Unknown: no metric was measured both" in page(tmp_path / "none.html", data())


def test_a_screen_reader_finds_its_way(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", full())
    links = _Links()
    links.feed(text)
    assert links.headings[0] == 1 and links.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(links.headings))
    anchors = [target[1:] for target in links.targets if target.startswith("#")]
    assert {"content", "input", "output", "results", "trust", "training", "again"} <= set(anchors) <= links.anchors
    assert {"header", "nav", "main", "section"} <= set(links.tags)
    assert links.tags.count("table") == links.tags.count("caption") == 3
    assert text.count("<th ") == len(re.findall(r'<th [^>]*scope="', text)) > 10
    assert len(links.alts) == 10 and len(set(links.alts)) == 10
    assert len(re.findall(r'role="img" aria-label="[^"]+', text)) == text.count("<svg") == 5


def test_text_stands_out_from_its_ground() -> None:
    style = Path(restill.report.__file__).with_name("report.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(schemes) == 3
    for colours in schemes[:2]:  # light and dark; paper has black on white
        for ground, ink in itertools.product(("page", "panel"), ("text", "soft", "good", "bad", "link")):
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)  # WCAG 2.2, 1.4.3


def _contrast(a: str, b: str) -> float:
    """Ratio of relative luminances (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_noise_says_what_a_copy_would_differ_by(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", dataclasses.replace(full(), store=stored()))
    assert "by about its noise, 0.4." in text and "Noise level of each" not in text
    assert "0.4, stated; in the units of the files 3.2" in text
    masks = dataclasses.replace(full(), store=stored(Mask(p=0.5, sigma_n=0.4)))
    text = page(tmp_path / "mask.html", masks)
    assert "by about its noise, 0.4." in text and "<dd>50% of the pixels missing</dd>" in text
    assert "<dt>p</dt><dd>0.5</dd>" in text
    nothing = dataclasses.replace(full(), store=stored(Mask(p=0.5)))
    text = page(tmp_path / "none.html", nothing)
    assert "by about its noise" not in text and "0: no noise, stated" in text
    counts = dataclasses.replace(full(), store=stored(Poisson(gain=0.05), [0.4] * 9, (1, 16, 16)))
    text = page(tmp_path / "counts.html", counts)
    for words in (
        "0.4 of the stabilised counts",
        "stabilised values range from",
        "each 1 × 8 × 8, of images 1 × 16 × 16",
    ):
        assert words in text, words
    assert "Measured on 1 × 8 × 8 and shown on the grid of the images." in text


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    bad = "\"'></style><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"
    report = ReportData(
        label=bad,
        measured=Measured(
            [result.model_copy(update={"features": bad, "sampler": bad}) for result in results(PIXELS)],
            [check.model_copy(update={"name": bad, "sentence": bad}) for check in CHECKS],
        ),
        store=stored(source=bad, levels=[0.1, 0.2]),
        images=data().images,
        log=[{"stage": bad, "images": k, bad: float(k)} for k in range(3)],
        recipe=bad,
        versions={bad: bad},
        hashes={bad: bad},
        nearest=full().nearest,
        shown={bad: bad},
        command=bad,
        seeds={bad: 1},
    )
    text = page(tmp_path / "report.html", report)
    links = _Links()
    links.feed(text)
    assert "script" not in links.tags
    assert links.tags.count("img") == 10
    assert "onerror=alert(2)&gt;{{ 7*7 }}" in text
    assert all(target.startswith(("data:", "#")) for target in links.targets)


@pytest.mark.parametrize(
    ("shape", "close_ups", "size"),
    [
        ((64, 3, 256, 256), 6, "1/2"),
        ((6, 1, 640, 368), 5, "1/2"),
        ((3, 2, 320, 320), 6, "1/2"),
        ((4, 1, 320, 320), 3, None),
        ((2, 3, 1024, 1024), 6, "1/8"),
    ],
)
def test_noise_of_any_size_stays_below_the_limit(
    shape: tuple[int, ...], close_ups: int, size: str | None, tmp_path: Path
) -> None:
    noise = torch.rand(6, 3, *shape[1:], generator=seeded("test-report-noise")) * 2 - 1
    near = Nearest(noise[:, 0], noise[:, 1:], torch.ones(6, 2))
    text = page(tmp_path / "report.html", dataclasses.replace(full(), images=data(shape).images, nearest=near))
    assert len(text.encode()) < 4_900_000
    found = re.findall(r"differs by 1.00 and 1.00(?:. Shown at (1/[0-9]+) of their size)?", text)
    assert found == [size or ""] * close_ups


def test_images_without_a_place_are_named(tmp_path: Path) -> None:
    report = dataclasses.replace(data(), images={"pupil": torch.zeros(4, 1, 8, 8)})
    with pytest.raises(UserError, match="pupil"):
        write_report(tmp_path / "report.html", report)
    assert not (tmp_path / "report.html").exists()


def test_the_page_says_how_far_each_subject_is_from_real_images(tmp_path: Path) -> None:
    half = results({"real": 0.1, "teacher-full": 0.4, "student": 0.05}, reference="clean-half", std=0.01)
    text = page(tmp_path / "report.html", changed(full(), full().measured.results + half))
    assert "How far from real images" in text and "−0.0500 ▲" in text and "+0.300" in text
    assert "How far from real images" not in page(tmp_path / "other.html", full())
