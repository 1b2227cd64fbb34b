"""A real browser shows the pages: nothing is asked of the network, nothing overflows a phone, dark and paper work.

Every start of the browser takes seconds, so each looks at as much as it can.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restill.report import write_comparison, write_report
from test_report_compare import run
from test_report_page import full

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine to open the pages with")

# alone, without a sandbox (as in a container), and unable to reach anything but this machine for its own purposes
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr", "--v=0",
]  # fmt: skip
DARK = "--blink-settings=preferredColorScheme=0"
NOWHERE = "http://127.0.0.1:9/missing.png"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, full())
    return path


def browse(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page once, in a fresh profile."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *options, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


def console(output: str) -> list[str]:
    """What the page, or the browser about it, wrote to the console."""
    return [line for line in output.splitlines() if ":CONSOLE" in line]


def requested(log: Path) -> list[str]:
    """All addresses that the page asked for; the browser's own requests have no origin."""
    text = log.read_text(encoding="utf-8")
    try:
        events = json.loads(text)["events"]
    except json.JSONDecodeError:  # a browser that is stopped leaves the list open
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    known = [event.get("params", {}) for event in events]
    assert any("url" in params for params in known), "the log is empty"
    return sorted({params["url"] for params in known if params.get("initiator", "not an origin") != "not an origin"})


def ground(picture: Path) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Colour of the page's edge, and the size of a screenshot."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    edge = pixels[:, :4].reshape(-1, 3)
    assert (edge == edge[0]).all(), "something reaches the edge"
    assert pixels.std() > 20, "the page is empty"
    return tuple(int(value) for value in edge[0]), (pixels.shape[1], pixels.shape[0])


def test_on_a_phone_by_day_it_asks_for_nothing(report: Path, tmp_path: Path) -> None:
    log, picture = tmp_path / "net.json", tmp_path / "phone.png"
    options = f"--log-net-log={log}", f"--screenshot={picture}", "--window-size=360,900"
    result = browse(report, tmp_path / "profile", *options)
    assert console(result.stderr) == []
    assert requested(log) == []
    assert ground(picture) == ((255, 255, 255), (360, 900))


def test_requests_and_errors_would_be_seen(report: Path, tmp_path: Path) -> None:
    """The test above would pass on any page if nothing were found in console and log."""
    text = report.read_text(encoding="utf-8").replace("<main", f'<img src="{NOWHERE}"><script>oops()</script><main')
    (tmp_path / "with.html").write_text(text, encoding="utf-8")
    text = re.sub(r"<meta http-equiv[^>]*>", "", text)
    (tmp_path / "without.html").write_text(text, encoding="utf-8")
    for name, words in {"with.html": "Content Security Policy", "without.html": "oops"}.items():
        log = tmp_path / f"{name}.json"
        result = browse(tmp_path / name, tmp_path / "profile", f"--log-net-log={log}", "--dump-dom")
        assert any(words in line for line in console(result.stderr))
        assert requested(log) == ([NOWHERE] if name == "without.html" else [])  # the page's policy keeps it from asking


def test_on_a_desk_by_night(report: Path, tmp_path: Path) -> None:
    options = (
        f"--screenshot={tmp_path / 'desk.png'}",
        "--window-size=1280,900",
        "--blink-settings=preferredColorScheme=0",
    )
    browse(report, tmp_path / "profile", *options)
    assert ground(tmp_path / "desk.png") == ((0x14, 0x17, 0x1B), (1280, 900))


def test_on_paper(report: Path, tmp_path: Path) -> None:
    paper = tmp_path / "report.pdf"
    browse(report, tmp_path / "profile", f"--print-to-pdf={paper}", "--no-pdf-header-footer", DARK)
    content = paper.read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert content.startswith(b"%PDF") and 3 <= pages <= 20


MEASURE = """<!doctype html><body><script>
const pages = PAGES, found = {}; let left = 0;
function measure(name, width, frame) {
  const inside = frame.contentDocument, cell = inside.querySelector("td"), wide = [];
  for (const element of inside.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect();
    const around = element.parentElement.getBoundingClientRect().right;
    const room = element.matches("table, img, figure, dl") ? Math.min(around, width) : width;
    if (box.width && box.right > room + 0.5 && !element.closest("pre, svg, .unseen, thead"))
      wide.push(element.outerHTML.slice(0, 80));
  }
  const display = cell && frame.contentWindow.getComputedStyle(cell).display;
  found[`${name} ${width}`] = {page: inside.documentElement.scrollWidth, wide: wide.slice(0, 3), cell: display};
  if (--left === 0) document.body.textContent = JSON.stringify(found);
}
for (const [name, address] of Object.entries(pages)) for (const width of [360, 1280]) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:800px;border:0`;
  frame.onload = () => measure(name, width, frame);
  frame.src = address;
  document.body.append(frame);
  left += 1;
}
</script></body>"""


def test_nothing_is_wider_than_a_phone(report: Path, tmp_path: Path) -> None:
    comparison, control = tmp_path / "comparison.html", tmp_path / "control.html"
    runs = [run("a"), run("b-with-a-very-long-name-that-has-no-place-to-break" * 2), run("c")]
    differences = [("student.fake.lr", ["1.0", "2.0", "[1, 2, 3]"])]
    write_comparison(comparison, runs, differences, {}, {}, "x" * 400)
    table = "<div style='width: 50px'><table style='width: 200px'><tr><td>wider than its place</td></tr></table></div>"
    control.write_text(f"<!doctype html>{table}<p style='width: 2000px'>wider than any page</p>", encoding="utf-8")
    pages = {"report": report.as_uri(), "comparison": comparison.as_uri(), "control": control.as_uri()}
    (tmp_path / "measure.html").write_text(MEASURE.replace("PAGES", json.dumps(pages)), encoding="utf-8")
    options = "--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom"
    result = browse(tmp_path / "measure.html", tmp_path / "profile", *options)
    body = re.search(r"<body>(\{.*\})</body>", result.stdout)
    assert body is not None, result.stdout[-500:]
    found = json.loads(html.unescape(body[1]))
    for width in (360, 1280):
        for name in ("report", "comparison"):
            measured = found[f"{name} {width}"]
            assert measured["page"] == width and measured["wide"] == []
            assert measured["cell"] == ("flex" if width == 360 else "table-cell")
        measured = found[f"control {width}"]
        assert measured["page"] > width and [text[:6] for text in measured["wide"]] == ["<table", "<p sty"]
