"""Several runs on one page: one table for what was measured alike, a sentence for what was not."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import Check, Measured, Result
from restill.report import RunData, write_comparison
from test_report_curves import ROWS
from test_report_table import CLASSIFIER, PIXELS, results, stored


def run(label: str, found: list[Result] | None = None, checks: Sequence[Check] = (), **more: object) -> RunData:
    images = torch.rand(40, 1, 8, 8, generator=seeded("compare", len(label))) * 2 - 1
    known = results(PIXELS, std=0.01) + results(CLASSIFIER, "classifier") if found is None else found
    return dataclasses.replace(RunData(label, Measured(known, [*checks]), stored(), {"student": images}, ROWS), **more)


def page(path: Path, *runs: RunData, **more: object) -> str:
    about: dict[str, object] = {"differences": (), "shown": {}, "versions": {}, "command": "", **more}
    write_comparison(path, runs, **about)  # type: ignore[arg-type]
    return html.unescape(path.read_text(encoding="utf-8"))


def tables(text: str) -> dict[str, list[list[str]]]:
    """Cells by caption."""
    found = {}
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        caption = re.sub(r"<span.*", "", re.search(r"<caption>(.*?)</caption>", table, re.DOTALL)[1], flags=re.DOTALL)  # type: ignore[index]
        rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        found[caption.strip()] = [[re.sub(r"<[^>]+>", "", cell).strip() for cell in row] for row in cells]
    return found


def test_rows_are_subjects_and_columns_are_runs(tmp_path: Path) -> None:
    better = results({**PIXELS, "student": 0.3}, std=0.01) + results(CLASSIFIER, "classifier")
    text = page(tmp_path / "c.html", run("a"), run("b", better), run("c"), shown={"classifier": "Classes."})
    pixels = tables(text)["Pixel-space Fréchet distance to clean images ↓"]
    assert pixels[0] == ["Of the images", "a", "b", "c"]
    assert pixels[-1] == ["student", "0.420 ± 0.010", "0.300 ± 0.010 ★ best", "0.420 ± 0.010"]
    assert len(pixels) == 5 and "Classes." in text
    assert tables(text)["Images per second ↑"][-1][0] == "student"
    assert "What cannot be compared" not in text
    for words in ("beats both teachers", "1,797 measurements with noise 0.4", "Not checked", "a ends at"):
        assert words in text


def test_other_protocols_get_a_sentence_and_no_column(tmp_path: Path) -> None:
    few = [r.model_copy(update={"n": 10}) if r.features == "pixels" else r for r in run("a").measured.results]
    text = page(tmp_path / "c.html", run("a"), run("b", few), run("c"))
    assert tables(text)["Pixel-space Fréchet distance to clean images ↓"][0] == ["Of the images", "a", "c"]
    assert tables(text)["Fréchet distance to clean images in classifier features ↓"][0][1:] == ["a", "b", "c"]
    assert (
        "Pixel-space Fréchet distance to clean images: b cannot be compared with a: n (10 and 1,000) differs." in text
    )
    two = page(tmp_path / "two.html", run("a"), run("b", results(PIXELS, n=10)))
    assert "There is no table" not in two and not any("Pixel" in caption for caption in tables(two))
    assert "Measured in a alone: Fréchet distance to clean images in classifier features." in two
    assert "so there is no table" in two
    inside = [*results(PIXELS)[1:], results(PIXELS, n=7)[0]]
    assert "b: Pixel-space Fréchet distance to clean images: measurements" in page(
        tmp_path / "inside.html", run("a"), run("b", inside)
    )


def test_what_differs_and_what_warns(tmp_path: Path) -> None:
    check = Check(name="memorisation", subject="student", value=-9, status="warning", sentence="It copies.")
    runs = run("a"), run("b", checks=[check])
    text = page(tmp_path / "c.html", *runs, differences=[("student.alpha", ["1.0", "1.2"])])
    assert tables(text)["Keys of the recipe"] == [["Key", "a", "b"], ["student.alpha", "1.0", "1.2"]]
    assert "differ in 1 key." in text and "▲" in text and "It copies." in text
    assert "do not differ" in page(tmp_path / "same.html", *runs)


def test_a_teacher_alone_has_no_grid(tmp_path: Path) -> None:
    text = page(tmp_path / "c.html", run("a", images={}), run("b"))
    assert text.count("<img") == 1
    assert "None of the runs has a student" in page(tmp_path / "n.html", run("a", images={}), run("b", images={}))


def test_many_large_runs_stay_below_the_limit(tmp_path: Path) -> None:
    noise = torch.rand(4, 3, 256, 256, generator=seeded("large")) * 2 - 1
    page(tmp_path / "c.html", *(run(f"run-{k}", images={"student": noise}) for k in range(8)))
    assert (tmp_path / "c.html").stat().st_size < 5_000_000


def test_only_an_earlier_comparison_is_replaced(tmp_path: Path) -> None:
    page(tmp_path / "c.html", run("a"), run("b"))
    assert "<h3>c</h3>" in page(tmp_path / "c.html", run("a"), run("c"))
    for content in (b"<!doctype html><p>mine", b"\xff\xfe\x00"):
        (tmp_path / "mine.html").write_bytes(content)
        with pytest.raises(UserError, match=r"mine\.html: already exists and was not written"):
            page(tmp_path / "mine.html", run("a"), run("b"))
        assert (tmp_path / "mine.html").read_bytes() == content


def test_runs_need_two_different_names(tmp_path: Path) -> None:
    for runs in ((), (run("a"),), (run("a"), run("a"))):
        with pytest.raises(UserError, match="two or more runs"):
            page(tmp_path / "c.html", *runs)
    assert not (tmp_path / "c.html").exists()


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    bad = "</h3><script>alert(1)</script>{{ 7*7 }}"
    odd = run(bad, results(PIXELS, bad), log=[{"stage": "student", "images": k, "score_gap": k} for k in range(3)])
    write_comparison(tmp_path / "c.html", [odd, run("b")], [(bad, [bad, bad])], {bad: bad}, {bad: bad}, bad)
    text = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<script" not in text and "{{ 7*7 }}" in text
