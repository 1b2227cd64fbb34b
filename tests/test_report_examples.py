"""Clean images, and measurements beside their restorations and clean images, on the page of a run."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import torch

from restill.checkpoint import load_state, save_state
from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import load_results
from restill.report import Examples, Triples
from restill.report.figures_of_images import triple_figures
from restill.restoration import posterior_mean
from restill.runs import open_run, report
from restill.runs.examples import load_examples
from restill.runs.subjects import trained as drawn_by
from restill.store import open_store
from restill.store.reference import open_reference
from test_evaluation import RECIPE, trained  # noqa: F401 - a fixture
from test_report_page import full, page


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:  # noqa: F811
    return Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=seeded("examples", *shape)) * 2 - 1


def test_evaluation_leaves_what_the_report_shows(run: Path) -> None:
    store, current = open_store(run / "store"), open_run(run)
    clean = open_reference(run / "reference", store)
    found = load_examples(current, store, load_results(current.metrics).results)
    assert found is not None and found.triples is not None
    assert torch.equal(found.clean, clean.images(torch.arange(RECIPE.sampling.show)))
    measured, restored, truth, missing = found.triples
    index = torch.arange(6)
    assert missing is None and restored is not None
    assert torch.equal(measured, store.images(index)) and torch.equal(truth, clean.images(index))
    mean = posterior_mean(drawn_by(current, "teacher-full").denoiser, store.batch(index)).clamp(-1, 1)
    torch.testing.assert_close(restored, mean)


def test_the_report_needs_no_reference_for_them(run: Path) -> None:
    shutil.rmtree(run / "reference")
    report(open_run(run))
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "<strong>clean images</strong>" in text and "Measurement, restoration, clean image</h3>" in text
    assert len(re.findall(r"measurement off by [0-9.]+, restoration off by [0-9.]+</figcaption>", text)) == 6


def test_a_report_without_a_reference_shows_none(run: Path) -> None:
    (run / "examples.safetensors").unlink()
    report(open_run(run))
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "clean images</strong>" not in text and "off by" not in text


@pytest.mark.parametrize("key", ["reference", "measurements"])
def test_those_of_other_data_are_not_shown(run: Path, key: str) -> None:
    current, store = open_run(run), open_store(run / "store")
    tensors, data = load_state(current.examples)
    for other in ("of another", ["of another"], {"of": 1}, None):
        save_state(current.examples, tensors, {**data, key: other})
        assert load_examples(current, store, load_results(current.metrics).results) is None


@pytest.mark.parametrize("images", [torch.zeros(3, 1, 4, 4), torch.full((3, 1, 8, 8), torch.nan)])
def test_a_file_that_evaluation_did_not_write_is_named(run: Path, images: torch.Tensor) -> None:
    current, store = open_run(run), open_store(run / "store")
    _, data = load_state(current.examples)
    save_state(current.examples, {"clean": images}, data)
    with pytest.raises(UserError, match=r"examples\.safetensors: clean holds no images of this run"):
        load_examples(current, store, load_results(current.metrics).results)


def test_the_captions_say_how_far_each_is_from_the_truth() -> None:
    clean = torch.zeros(2, 1, 8, 8)
    figures = triple_figures(Triples(clean + 0.4, clean - 0.1, clean, None))
    assert [figure.caption for figure in figures] == ["measurement off by 0.400, restoration off by 0.100"] * 2
    assert figures[0].width == 3 * 64 + 4
    [figure] = triple_figures(Triples(clean[:1] + 0.4, None, clean[:1], torch.zeros(1, 1, 8, 8, dtype=torch.bool)))
    assert figure.caption == "measurement off by 0.400" and figure.width == 2 * 64 + 2


def test_pages_of_noise_stay_below_the_limit(tmp_path: Path) -> None:
    for shape in ((64, 3, 64, 64), (12, 1, 320, 320)):
        triples = Triples(noise(6, *shape[1:]), noise(6, *shape[1:]), noise(6, *shape[1:]), None)
        images = dict.fromkeys(full().images, noise(*shape))
        shown = dataclasses.replace(full(), images=images, examples=Examples(noise(*shape), triples))
        assert len(page(tmp_path / "report.html", shown).encode()) < 4_900_000
