"""Class-conditional generators draw classes as often as the data has them, unless they are asked for others."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import restill
from restill.acquisition import corrupt_images
from restill.checkpoint import NetworkConfig, load_network_config, save_network
from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.corruption import AdditiveNoise
from restill.diffusion import NetworkDenoiser, Noisy
from restill.io import array_source
from restill.metrics import load_results
from restill.runs import distill, prepare_store, pretrain, working_on
from restill.sampling import Classes, OneStep, generate
from restill.store import Store
from restill.training import Distillation, DistillationSettings
from test_generator import CONFIG
from tiny import images, settings, tiny_denoiser, tiny_recipe

COUNTS = (30, 0, 10, 20)


class OfClass(NetworkDenoiser):
    """Draws images whose pixels are the index of their class."""

    def image(self, given: Noisy) -> Tensor:
        assert given.labels is not None, "a class-conditional network must be told its classes"
        return given.x_t * 0 + given.labels[:, None, None, None]


def of_class(classes: int) -> OfClass:
    return OfClass(tiny_denoiser(classes=classes).net, 1, 0.5, classes)


def store_of(folder: Path, counts: tuple[int, ...]) -> Store:
    labels = [k for k, count in enumerate(counts) for _ in range(count)]
    source = array_source(images(len(labels)), layout="NCHW", labels=labels)
    return corrupt_images(source, AdditiveNoise(sigma_n=0.3), folder, None, seed=0)


def within_5_errors(counts: Tensor, shares: list[float]) -> None:
    """Counts of draws agree with probabilities; those of probability 0 exactly."""
    n = int(counts.sum())
    for count, share in zip(counts.tolist(), shares, strict=True):
        assert abs(count - n * share) <= 5 * math.sqrt(n * share * (1 - share)), (count, n * share)


def test_classes_are_as_frequent_as_their_counts() -> None:
    drawn = Classes(COUNTS).draw(60_000, seeded("test"))
    assert drawn.dtype == torch.int64
    within_5_errors(drawn.bincount(minlength=4), [1 / 2, 0, 1 / 6, 1 / 3])


def test_balanced_classes_are_drawn_as_before_their_counts_were_known() -> None:
    """So that runs on balanced data repeat, and the random numbers that follow are the same for any counts."""
    expected, after = (torch.randint(5, (50,), generator=(g := seeded("balanced"))), torch.rand(3, generator=g))
    for classes in (Classes((7,) * 5), Classes.alike(5)):
        generator = seeded("balanced")
        assert torch.equal(classes.draw(50, generator), expected)
        assert torch.equal(torch.rand(3, generator=generator), after)
    Classes((900, 1, 99)).draw(50, generator := seeded("balanced"))
    assert torch.equal(torch.rand(3, generator=generator), after)


def test_a_draw_of_one_class_only() -> None:
    assert Classes((0, 0, 4)).draw(20, seeded("one")).unique().tolist() == [2]


@pytest.mark.parametrize("counts", [(), (0, 0), (3, -1)])
def test_impossible_counts_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="counts of the classes"):
        Classes(counts)


def test_a_name_wins_over_an_index_and_both_are_checked() -> None:
    classes = Classes((5, 5, 0), ("1", "cat", "dog"))
    assert [classes.index(one) for one in ("1", 1, "cat", "0")] == [0, 1, 1, 0]
    for wanted, message in {
        "cow": "class 'cow' is not known: use '1', 'cat', 'dog', or an index from 0 to 2",
        "-1": "class '-1' is not known",
        3: "class '3' is not known",
        "dog": "class 'dog': no measurement of it was trained on",
        2: "class '2': no measurement of it was trained on",
    }.items():
        with pytest.raises(UserError, match=re.escape(message)):
            classes.index(wanted)
    with pytest.raises(UserError, match="one for each of the 3 images, not 2"):
        classes.labels([0, 1], 3)
    with pytest.raises(UserError, match="2 names of classes for 3 counts"):
        Classes((1, 1, 1), ("a", "b"))


def conditional(counts: tuple[int, ...] | None = COUNTS, names: tuple[str, ...] | None = None) -> NetworkConfig:
    return CONFIG.changed(
        kwargs={**CONFIG.kwargs, "label_dim": len(COUNTS)}, num_classes=len(COUNTS), classes=names, class_counts=counts
    )


def test_a_generator_draws_the_frequencies_of_its_data_and_each_image_by_its_number() -> None:
    generator = restill.Generator(of_class(4), conditional())
    drawn = generator.sample(6_000, seed=1)[:, 0, 0, 0].long()
    within_5_errors(drawn.bincount(minlength=4), [1 / 2, 0, 1 / 6, 1 / 3])
    assert torch.equal(generator.sample(10, seed=1, start=90, batch_size=3)[:, 0, 0, 0].long(), drawn[90:100])
    assert not torch.equal(generator.sample(100, seed=2)[:, 0, 0, 0].long(), drawn[:100])


def test_a_generator_draws_the_classes_that_it_is_asked_for() -> None:
    generator = restill.Generator(of_class(4), conditional(names=("ant", "bee", "cat", "dog")))
    for labels, expected in {"cat": [2] * 5, 3: [3] * 5, "0": [0] * 5}.items():
        assert generator.sample(5, labels=labels)[:, 0, 0, 0].tolist() == expected
    assert generator.sample(3, labels=["dog", 0, "cat"], batch_size=2)[:, 0, 0, 0].tolist() == [3, 0, 2]
    assert generator.sample(3, labels=torch.tensor([2, 2, 0]))[:, 0, 0, 0].tolist() == [2, 2, 0]
    with pytest.raises(UserError, match="no measurement of it was trained on"):
        generator.sample(2, labels="bee")
    assert "classes as frequent as in the data" in generator.in_words


def test_a_class_changes_the_class_of_an_image_and_not_its_latent() -> None:
    """What else an image depends on is drawn alike."""
    net = tiny_denoiser(classes=4)
    generator = restill.Generator(net, conditional())
    by_seed = generator.sample(4, seed=3)
    labels = torch.cat([Classes(COUNTS).draw(1, seeded("label", 3, k)) for k in range(4)])
    assert torch.equal(generator.sample(4, seed=3, labels=labels), by_seed)
    assert not torch.allclose(generator.sample(4, seed=3, labels=2), generator.sample(4, seed=3, labels=0))


def test_an_unconditional_generator_has_no_classes() -> None:
    generator = restill.Generator(tiny_denoiser(), CONFIG)
    with pytest.raises(UserError, match="not class-conditional"):
        generator.sample(2, labels=0)
    assert generator.classes is None and "class" not in generator.in_words


def test_an_older_folder_draws_all_classes_alike_and_says_so(tmp_path: Path) -> None:
    config = conditional(counts=None)
    save_network(tmp_path / "net", config.build(), config)
    path = tmp_path / "net" / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "class_counts"}))
    generator = restill.load_generator(tmp_path / "net")
    assert "all classes equally often" in generator.in_words
    drawn = restill.Generator(of_class(4), generator.config).sample(4_000)[:, 0, 0, 0].long()
    within_5_errors(drawn.bincount(minlength=4), [1 / 4] * 4)


def test_counts_that_do_not_fit_are_named(tmp_path: Path) -> None:
    config = conditional()
    save_network(tmp_path / "net", config.build(), config)
    path = tmp_path / "net" / "config.json"
    written = json.loads(path.read_text())
    for counts, message in {
        (1, 2): "class_counts must hold 4 numbers, not 2",
        (1, 2, 3, -4): "must be at least 0",
        (0, 0, 0, 0): "one of them above 0",
    }.items():
        path.write_text(json.dumps(written | {"class_counts": counts}))
        with pytest.raises(UserError, match=re.escape(f"{path}: ") + ".*" + message):
            restill.load_generator(tmp_path / "net")


def test_sampling_never_leaves_a_conditional_network_without_classes() -> None:
    (drawn,) = generate(of_class(3), OneStep(), range(64), (1, 8, 8))
    assert drawn.unique().tolist() == [0, 1, 2]


def test_phase_two_draws_the_frequencies_of_the_data(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", (24, 0, 8))
    assert store.class_counts == (24, 0, 8)
    seen: list[Tensor] = []

    class Listening(NetworkDenoiser):
        def image(self, given: Noisy) -> Tensor:
            assert given.labels is not None
            seen.append(given.labels)
            return super().image(given)

    teacher = Listening(tiny_denoiser(classes=3).net, 1, 0.5, 3)
    phase = DistillationSettings(images=4096, batch_size=512)
    corruption, classes = AdditiveNoise(sigma_n=0.3), Classes(store.class_counts)
    training = Distillation(teacher, corruption, (1, 8, 8), phase, seed=0, classes=classes)
    for _ in range(4):
        seen.clear()
        training.advance()
        assert all(torch.equal(labels, seen[0]) for labels in seen)  # teacher, student and fake score alike
        within_5_errors(seen[0].bincount(minlength=3), [3 / 4, 0, 1 / 4])


def test_a_run_draws_its_own_classes(call: Callable[..., str], fails: Callable[..., str], tmp_path: Path) -> None:
    for k, (name, n) in enumerate({"cats": 18, "dogs": 6}.items()):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i, image in enumerate(images(n, seed=k)):
            Image.fromarray(image[0]).save(tmp_path / "images" / name / f"{i:03d}.png")
    run, samples = tmp_path / "run", tmp_path / "samples"
    more = settings(f"data.source={tmp_path / 'images'}", "network.class_conditional=true", "evaluation.checks=false")
    call("run", "tiny-noise", "--out", run, *more)
    for stage in ("teacher", "student"):
        config = load_network_config(run / stage)
        assert config.class_counts == (18, 6) and config.classes == ("cats", "dogs")
    rows = load_results(run / "metrics.json").results
    assert all("classes as frequent as in the data" in str(row.sampler) for row in rows if row.subject == "student")
    assert "3 images, classes as frequent as in the data;" in call("sample", run, "-n", 3, "--out", samples)
    assert "3 images, of class 'dogs' (index 1);" in call("sample", run, "-n", 3, "--out", samples, "--class", "dogs")
    message = fails("sample", run, "--out", tmp_path / "more", "--class", "cows")
    assert "--class cows: class 'cows' is not known: use 'cats', 'dogs', or an index from 0 to 1" in message


def test_a_student_of_an_older_teacher_draws_the_frequencies_of_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(tmp_path / "store", (18, 6))
    recipe = tiny_recipe(
        data={"source": str(tmp_path / "store"), "content": "store"},
        network={"class_conditional": True, "model_channels": 16, "channel_mult": [1], "num_blocks": 1},
        teacher={"images": 32, "batch_size": 16},
        student={"images": 32, "batch_size": 16, "select_every": 16, "select_samples": 16, "snapshots": 0},
    )
    given: list[Classes | None] = []

    class Listening(Distillation):
        def __init__(self, *arguments: Any, classes: Classes | None, **more: Any) -> None:
            given.append(classes)
            super().__init__(*arguments, classes=classes, **more)

    monkeypatch.setattr("restill.runs.phases.Distillation", Listening)
    with working_on(tmp_path / "run", recipe) as run:
        prepare_store(run)
        pretrain(run)
        path = run.stage("teacher") / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"class_counts": None}))
        distill(run)
        assert load_network_config(run.stage("student")).class_counts == (18, 6)
    assert [classes and classes.counts for classes in given] == [(18, 6)]
