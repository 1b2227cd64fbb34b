"""Interrupted trainings end with the weights of an uninterrupted one, bit by bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

import restill.checkpoint
import restill.core.files
from restill.checkpoint import load_state, load_state_data, save_state
from restill.corruption import AdditiveNoise
from restill.objectives import AmbientTweedie
from restill.runs import pretrain, working_on
from restill.training import (
    Adam,
    Average,
    Batches,
    Distillation,
    DistillationSettings,
    TeacherSettings,
    TeacherTraining,
    Training,
)
from restill.training import run as training_loop
from tiny import RECIPE, different, tiny_denoiser, tiny_recipe, tiny_store

CPU = torch.device("cpu")
ADAM = Adam(lr=1e-3)
WEIGHTS = [f"{stage}/{file}.safetensors" for stage in ("teacher", "student") for file in ("model", "state")]


class Interruption(NamedTuple):
    """What was done to a process, and where its run stood."""

    signal: int
    stage: str
    code: int
    stderr: str
    step: int
    logged: int


class Started:
    """A `restill run` in a process of its own."""

    def __init__(self, recipe: Path, out: Path, *options: str) -> None:
        command = [sys.executable, "-m", "restill", "run", str(recipe), "--out", str(out), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self.out = out
        self.process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)

    def finish(self) -> int:
        self.stdout, self.stderr = self.process.communicate(timeout=300)
        return self.process.returncode

    def interrupt(self, number: int, stage: str, reached: Callable[[Path], bool], delay: float) -> Interruption:
        """Send a signal as soon as the run has got so far, and `delay` seconds more; the process must be at work."""
        deadline = time.monotonic() + 200
        while not reached(self.out):
            assert self.process.poll() is None, f"ended before {stage}: {self.finish()} {self.stderr}"
            assert time.monotonic() < deadline, f"never reached {stage}"
            time.sleep(0.001)
        time.sleep(delay)
        assert self.process.poll() is None
        self.process.send_signal(number)
        code = self.finish()
        state = self.out / stage / "state.safetensors"
        step = load_state_data(state)["step"] if state.exists() else 0
        return Interruption(number, stage, code, self.stderr, step, last_step(self.out, stage))


def rows(out: Path) -> list[dict[str, Any]]:
    """Whole rows of the log."""
    path = out / "log.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def last_step(out: Path, stage: str) -> int:
    return max((row["step"] for row in rows(out) if row["stage"] == stage), default=0)


def past(stage: str, step: int) -> Callable[[Path], bool]:
    """The log of a stage has got to a step, not to its end."""
    return lambda out: last_step(out, stage) >= step


def saving(stage: str, step: int, at_the_latest: int) -> Callable[[Path], bool]:
    """Past a step and in the middle of writing a checkpoint, if that can be caught."""

    def reached(out: Path) -> bool:
        now = last_step(out, stage)
        return now >= at_the_latest or (now >= step and any((out / stage).glob(".*.tmp")))

    return reached


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Interruption]]:
    """An uninterrupted run, the same one interrupted again and again, and the interruptions."""
    folder = tmp_path_factory.mktemp("resume")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE)
    whole = Started(recipe, folder / "whole")
    chance = random.Random(0)
    at = chance.randrange
    plan = [
        (signal.SIGKILL, "store", lambda out: (out / "store.writer").exists() or (out / "store").exists()),
        (signal.SIGKILL, "teacher", past("teacher", 5 * at(1, 6))),
        (signal.SIGKILL, "teacher", saving("teacher", 30, 60)),
        (signal.SIGINT, "teacher", past("teacher", 65)),
        (signal.SIGKILL, "student", saving("student", 5, 25)),
        (signal.SIGKILL, "student", past("student", 5 * at(6, 9))),
    ]
    seen = []
    for number, stage, reached in plan:
        rare = ("--set", "execution.checkpoint_every_s=1000") if number == signal.SIGINT else ()
        delay = 0.0 if stage == "store" or number == signal.SIGINT else chance.uniform(0, 0.03)
        seen.append(Started(recipe, folder / "again", *rare).interrupt(number, stage, reached, delay))
    last = Started(recipe, folder / "again")
    for process in (last, whole):
        assert process.finish() == 0, process.stderr
    return folder / "whole", folder / "again", seen


def test_the_interruptions_hit_processes_at_work(runs: tuple[Path, Path, list[Interruption]]) -> None:
    kills = [i for i in runs[2] if i.signal == signal.SIGKILL]
    assert len(kills) >= 5 and all(kill.code == -signal.SIGKILL for kill in kills)
    for stage, steps in (("teacher", 80), ("student", 60)):
        inside = [kill for kill in kills if kill.stage == stage]
        assert len(inside) >= 2 and all(0 < kill.logged < steps for kill in inside)


@pytest.mark.parametrize("file", WEIGHTS)
def test_continued_weights_are_bit_equal(runs: tuple[Path, Path, list[Interruption]], file: str) -> None:
    whole, again = (load_file(run / file) for run in runs[:2])
    assert len(whole) > 10 and sum(value.numel() for value in whole.values()) > 10_000
    assert different(whole, again) == []
    assert load_state_data(runs[0] / file) == load_state_data(runs[1] / file)


def test_the_measurements_and_the_log_are_the_same(runs: tuple[Path, Path, list[Interruption]]) -> None:
    def compared(run: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k not in ("time", "images_per_second")} for row in rows(run)]

    log = compared(runs[0])
    assert [row["step"] for row in log if row["stage"] == "teacher"] == list(range(5, 81, 5))
    assert [row["step"] for row in log if "score_gap" in row] == list(range(5, 61, 5))
    assert [row["step"] for row in log if "proximal_frechet" in row] == list(range(10, 61, 10))
    assert compared(runs[1]) == log
    for store in ("store", "reference"):
        shards = [(run / store / "shard-00000.safetensors").read_bytes() for run in runs[:2]]
        assert shards[0] == shards[1]


def test_nothing_is_left_of_the_interruptions(runs: tuple[Path, Path, list[Interruption]]) -> None:
    whole, again = ({str(file.relative_to(run)) for file in run.rglob("*")} for run in runs[:2])
    assert whole == again and not any("tmp" in name or "writing" in name for name in whole)


def test_ctrl_c_saves_the_step_that_was_reached(runs: tuple[Path, Path, list[Interruption]]) -> None:
    (interrupt,) = (i for i in runs[2] if i.signal == signal.SIGINT)
    assert interrupt.code == 130
    assert interrupt.stderr == "restill: interrupted; the same command continues from the last checkpoint\n"
    assert interrupt.logged >= 65  # no checkpoint was due: what is saved is what Ctrl-C saved
    assert interrupt.logged <= interrupt.step < interrupt.logged + 5


def teacher(folder: Path, accumulate: int = 1, channels_last: bool = False, dropout: float = 0.1) -> TeacherTraining:
    store = tiny_store(folder / f"store{len(list(folder.iterdir()))}")
    denoiser = tiny_denoiser(dropout=dropout, augment=True)
    if channels_last:
        denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = TeacherSettings(
        images=10 * 16, batch_size=16, accumulate=accumulate, adam=ADAM, ema=Average(halflife_images=50), augment=0.5
    )
    return TeacherTraining(denoiser, Batches(store, 16, 0, CPU), store.corruption, settings, AmbientTweedie(), seed=3)


def distillation(folder: Path, accumulate: int = 1, channels_last: bool = False) -> Distillation:
    denoiser = tiny_denoiser(dropout=0.1)
    if channels_last:
        denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = DistillationSettings(
        images=10 * 16, batch_size=16, generator=ADAM, fake=ADAM, ema=Average(halflife_images=50)
    )
    return Distillation(denoiser, AdditiveNoise(sigma_n=0.3), (1, 8, 8), settings, AmbientTweedie(), seed=3, device=CPU)


Make = Callable[..., Training]


@pytest.mark.parametrize("make", [teacher, distillation])
@pytest.mark.parametrize("options", [{}, {"channels_last": True}, {"accumulate": 2}], ids=str)
def test_a_state_continues_bit_equal(tmp_path: Path, make: Make, options: dict[str, Any]) -> None:
    whole, first, second = (make(tmp_path, **options) for _ in range(3))
    start = {name: value.clone() for name, value in whole.state().items()}
    log = [p.row for p in training_loop(whole, 4) if p.row]
    torch.manual_seed(77)  # the global random state is no part of a training
    for progress in training_loop(first, 4):
        if progress.step == 6:
            break
    save_state(tmp_path / "state.safetensors", first.state(), {"step": first.step})
    tensors, data = load_state(tmp_path / "state.safetensors")
    second.restore(tensors, data["step"])
    torch.rand(5)
    again = [p.row for p in training_loop(second, 4) if p.row]
    end = whole.state()
    assert second.step == whole.step == 10 and different(end, second.state()) == []
    changed = set(different(start, end))
    assert all(name in changed for name in end if name.split("/")[0] in ("denoiser", "student", "fake", "ema"))
    speed = "images_per_second"
    assert [{k: v for k, v in row.items() if k != speed} for row in again] == [
        {k: v for k, v in row.items() if k != speed} for row in log[1:]
    ]


def test_accumulation_changes_memory_and_not_the_gradient(tmp_path: Path) -> None:
    gradients, losses = [], []
    for parts in (1, 2, 4):
        training = teacher(tmp_path, accumulate=parts, dropout=0.0)
        losses.append(training.advance()["loss"])
        state = training.update.moments()  # Adam's first moment is a tenth of the first gradient
        gradients.append(torch.cat([v.flatten() for name, v in state.items() if name.startswith("exp_avg.")]))
    assert gradients[0].norm() > 1e-4 and losses[0] > 0
    scale = float(gradients[0].abs().max())
    for gradient, loss in zip(gradients[1:], losses[1:], strict=True):
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(loss, losses[0], rtol=1e-5, atol=0)


def test_a_network_is_there_when_all_of_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the two files of a network, a stage does not count as done."""
    tiny_store(tmp_path / "y")
    recipe = tiny_recipe(
        data={"source": str(tmp_path / "y"), "content": "store"},
        corruption={"kind": "noise", "sigma_n": 0.3},
        network={"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
        teacher={"images": 32, "batch_size": 16},
    )

    class Killed(BaseException):
        pass

    original = restill.checkpoint.replacing

    def killing(path: Path) -> Any:
        if written:
            raise Killed
        written.append(path)
        return original(path)

    with working_on(tmp_path / "run", recipe) as run:
        run.store.symlink_to(tmp_path / "y")
        pretrain(run)
        model = load_file(run.stage("teacher") / "model.safetensors")
        denoiser, config = restill.checkpoint.load_network(run.stage("teacher"))
        for file in ("model.safetensors", "config.json"):
            (run.stage("teacher") / file).unlink()
        written: list[Path] = []
        monkeypatch.setattr(restill.checkpoint, "replacing", killing)
        monkeypatch.setattr(restill.core.files, "replacing", killing)
        with pytest.raises(Killed):
            restill.checkpoint.save_network(run.stage("teacher"), denoiser, config)
        monkeypatch.undo()
        assert not run.trained("teacher")
        pretrain(run)
        assert different(model, load_file(run.stage("teacher") / "model.safetensors")) == []
        assert restill.checkpoint.load_network(run.stage("teacher"))[1] == config
