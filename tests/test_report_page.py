"""Figures and the page: pixels are where they belong, nothing leaves the file, nothing in it is trusted."""

import base64
import dataclasses
import html
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from restill.errors import UserError
from restill.report import ReportData, grid, line_svg, png_bytes, write_report
from restill.report.curves import log_curves
from restill.tensors import seeded
from test_report_table import ALL, NOISE, PIXELS, results

ROWS = [
    *({"stage": "teacher", "step": k, "images": 64 * k, "loss": 100 / k, "grad_norm": 1.0} for k in range(1, 40)),
    *({"stage": "student", "step": k, "images": 64 * k, "loss": math.nan if k == 3 else 1.0 * k} for k in range(30)),
    {"stage": "student", "step": 0, "images": 0, "proximal_frechet": 2.0},
    {"stage": "student", "step": 9, "images": 576, "proximal_frechet": 1.0},
    {"event": "resumed"},
]


def data(shape: tuple[int, ...] = (70, 1, 8, 8)) -> ReportData:
    images = torch.rand(shape, generator=seeded("test-report")) * 2 - 1
    recipe, versions = "data:\n  name: digits\n", {"torch": "2.13.0"}
    return ReportData("digits", ALL, 1797, NOISE, dict.fromkeys(PIXELS, images), ROWS, recipe, versions, {"data": 7})


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
    half = np.asarray(grid(images, columns=2, display_range=(0.0, 2.0), min_size=2))
    assert int(half[4, 0, 0]) == 128
    magnitude = np.asarray(grid(torch.tensor([0.3, -0.4])[None, :, None, None], min_size=1, complex_pairs=True))
    assert int(magnitude[0, 0, 0]) == 128
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
    with pytest.raises(UserError, match="complex"):
        grid(torch.zeros(1, 3, 8, 8), complex_pairs=True)
    with pytest.raises(UserError, match="display range"):
        grid(torch.zeros(1, 1, 8, 8), display_range=(1.0, 1.0))


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
    with pytest.raises(UserError, match="nothing to plot"):
        line_svg({"a": [(0.0, math.nan)]}, "x", "y", "none")


def test_curves_of_a_log() -> None:
    curves = log_curves(ROWS)
    assert [curve.title for curve in curves] == [
        "teacher: loss",
        "student: loss",
        "student: proximal Fréchet distance",
    ]
    assert "from 1 to 2; the last is 1" in curves[2].description
    assert "step" in log_curves([{"step": k, "loss": k} for k in range(3)])[0].svg
    assert log_curves([]) == log_curves([{"event": "start"}]) == ()
    long = log_curves([{"step": k, "loss": k} for k in range(100_000)])[0].svg
    assert len(long) < 40_000


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.alts: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
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
    lost = dataclasses.replace(data(), results=results({**PIXELS, "student": 1.0}))
    assert "does not beat" in page(tmp_path / "lost.html", lost)
    unmeasured = dataclasses.replace(data(), results=results({"student": 1.0}), images={}, log=())
    assert "no verdict" in page(tmp_path / "open.html", unmeasured)


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    bad = "\"'></style><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"
    report = ReportData(
        title=bad,
        results=[result.model_copy(update={"features": bad, "sampler": bad}) for result in results(PIXELS)],
        n_measurements=3,
        corruption={"kind": bad, bad: bad, "sigma_n": 0.1},
        images=data().images,
        log=[{"stage": bad, "images": k, bad: float(k)} for k in range(3)],
        recipe=bad,
        versions={bad: bad},
        hashes={bad: bad},
        notes=[bad],
    )
    text = page(tmp_path / "report.html", report)
    links = _Links()
    links.feed(text)
    assert "script" not in links.tags
    assert links.tags.count("img") == 4
    assert "onerror=alert(2)&gt;{{ 7*7 }}" in text
    assert all(target.startswith(("data:", "#")) for target in links.targets)


@pytest.mark.parametrize("shape", [(64, 3, 256, 256), (6, 1, 640, 368), (3, 2, 320, 320), (2, 3, 1024, 1024)])
def test_noise_of_any_size_stays_below_the_limit(shape: tuple[int, ...], tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", data(shape))
    assert len(text.encode()) < 5_000_000
    assert ("Shown at 1/4 of their size" in text) is (shape[-1] == 1024)


def test_images_without_a_place_are_named(tmp_path: Path) -> None:
    report = dataclasses.replace(data(), images={"pupil": torch.zeros(4, 1, 8, 8)})
    with pytest.raises(UserError, match="pupil"):
        write_report(tmp_path / "report.html", report)
    assert not (tmp_path / "report.html").exists()


def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine to open the page with")
    write_report(tmp_path / "report.html", data())
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--window-size=600,900", f"--screenshot={tmp_path / 'page.png'}"]
    subprocess.run(
        [browser, *options, (tmp_path / "report.html").as_uri()], check=True, capture_output=True, timeout=60
    )
    assert (tmp_path / "page.png").stat().st_size > 5_000
