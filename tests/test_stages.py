"""A stage of a run is the training that the recipe says, saved as it stands, and the same when it is continued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import restill.runs.phases
from restill.checkpoint import load_network, load_network_config, load_state, load_state_data, save_network
from restill.core.errors import UserError
from restill.core.tensors import mix_seed
from restill.generator import Generator, load_generator
from restill.metrics import Proximal, pixels_of
from restill.objectives import AmbientTweedie
from restill.runs import distill, pretrain, working_on
from restill.runs.folder import Run
from restill.runs.objects import fresh_denoiser, network_config
from restill.runs.recipe_files import Recipe
from restill.store import open_store
from restill.training import Batches, Distillation, TeacherTraining
from tiny import different, tiny_recipe, tiny_store

SHAPE, STEPS = (1, 8, 8), 6
SEED = 5


def recipe_on(store: Path) -> Recipe:
    """A recipe in which nothing is a default that a stage could take instead."""
    adam = {"lr": 1e-3, "beta1": 0.5}
    average = {"halflife_images": 100, "rampup": None}
    common = {"images": 16 * STEPS, "batch_size": 16, "ema": average}
    return tiny_recipe(
        seed=SEED,
        objective={"kind": "ambient-tweedie", "c_min": 1.0, "p_mean": -0.5},
        data={"source": str(store), "content": "store"},
        corruption={"kind": "noise", "sigma_n": 0.3},
        network={"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": [], "dropout": 0.2},
        teacher={**common, "adam": adam, "augment": 0.3},
        student={
            **common, "generator": adam, "fake": adam, "init_sigma": 1.7, "select_every": 64, "select_samples": 16,
            "snapshots": 2,
        },
        execution={"checkpoint_every_s": 1e-9, "log_every": 2},
    )  # fmt: skip


def run_in(folder: Path, store: Path) -> Any:
    return working_on(folder, recipe_on(store))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Both stages in one go."""
    folder = tmp_path_factory.mktemp("stages")
    tiny_store(folder / "y")
    with run_in(folder / "run", folder / "y") as run:
        run.store.symlink_to(folder / "y")
        pretrain(run)
        distill(run)
        yield run


def state_of(training: TeacherTraining | Distillation) -> dict[str, Tensor]:
    while training.step < training.steps:
        training.advance()
    return {name: value for name, value in training.state().items() if not name.startswith("means/")}


def saved(run: Run, stage: str) -> dict[str, Tensor]:
    tensors, _ = load_state(run.state(stage))
    return {name: value for name, value in tensors.items() if not name.startswith("means/")}


def test_the_teacher_is_the_average_of_the_training_that_the_recipe_says(made: Run) -> None:
    store, recipe = open_store(made.store), made.recipe
    denoiser = recipe.execution.prepared(fresh_denoiser(network_config(recipe, store), SEED))
    objective = AmbientTweedie(c_min=1.0, p_mean=-0.5)
    training = TeacherTraining(denoiser, Batches(store, 16, SEED), store.corruption, recipe.teacher, objective, SEED)
    assert different(state_of(training), saved(made, "teacher")) == []
    network, config = load_network(made.stage("teacher"))
    assert different(dict(training.ema.module.net.state_dict()), dict(network.net.state_dict())) == []
    assert different(dict(denoiser.net.state_dict()), dict(network.net.state_dict()))
    assert (config.role, config.init_sigma, config.images_seen) == ("teacher", None, 16 * STEPS)


def test_the_student_is_distilled_as_the_recipe_says(made: Run) -> None:
    """The state is that of a distillation by hand; what is kept is its average at the best of the measured steps."""
    teacher, _ = load_network(made.stage("teacher"))
    objective = AmbientTweedie(c_min=1.0, p_mean=-0.5)
    store = open_store(made.store)
    law = store.corruption
    teacher = made.recipe.execution.prepared(teacher)
    training = Distillation(teacher, law, SHAPE, made.recipe.student, objective, SEED)
    averages, distances, drawn = {}, {}, mix_seed("selection", SEED)
    config = load_network_config(made.stage("student"))
    proximal = Proximal(store, pixels_of(SHAPE, False))
    for step in range(1, STEPS + 1):
        training.advance()
        if step in (4, 6):  # every fourth and the last; always on the same latents and with the same masks and noise
            generator = Generator(training.ema.module, config, batch_size=256)
            distances[step] = proximal(generator.sample(16, drawn), drawn).value
        averages[step] = {name: value.clone() for name, value in training.ema.module.net.state_dict().items()}  # type: ignore[union-attr]
    assert different(state_of(training), saved(made, "student")) == []
    rows = [json.loads(line) for line in (made.path / "log.jsonl").read_text().splitlines()]
    measured = {row["step"]: row["proximal_frechet"] for row in rows if "proximal_frechet" in row}
    assert measured == pytest.approx(distances, rel=1e-9) and list(measured) == [4, 6]
    best = min(measured, key=lambda step: measured[step])
    data = load_state_data(made.state("student"))
    assert data["best"] == {"step": best, "proximal_frechet": measured[best]} and data["step"] == data["steps"] == STEPS
    network, config = load_network(made.stage("student"))
    assert different(averages[best], dict(network.net.state_dict())) == []
    assert (config.role, config.init_sigma, config.images_seen) == ("student", 1.7, 16 * best)
    assert load_generator(made.path).sampler.model_dump() == {"kind": "one-step", "init_sigma": 1.7}


def test_loaded_networks_are_for_use(made: Run) -> None:
    for stage in ("teacher", "student"):
        network, _ = load_network(made.stage(stage))
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_every_second_step_and_the_last_are_logged_once(made: Run) -> None:
    rows = [json.loads(line) for line in (made.path / "log.jsonl").read_text().splitlines()]
    for stage, key in (("teacher", "grad_norm"), ("student", "score_gap")):
        assert [row["step"] for row in rows if row["stage"] == stage and key in row] == [2, 4, 6]
        assert [row["images"] for row in rows if row["stage"] == stage and key in row] == [32, 64, 96]


def test_a_stage_that_was_interrupted_goes_on_as_if_it_had_not(
    made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both stages stopped after a step, with a row half full and with a best student: the same files in the end."""
    original, stop = restill.runs.phases.training_loop, 5

    def stopped(*args: Any) -> Iterator[Any]:
        for progress in original(*args):
            yield progress
            if progress.step == stop:
                raise KeyboardInterrupt

    tiny_store(tmp_path / "y")
    with run_in(tmp_path / "run", tmp_path / "y") as run:
        run.store.symlink_to(tmp_path / "y")
        for stage, name in ((pretrain, "teacher"), (distill, "student")):
            monkeypatch.setattr(restill.runs.phases, "training_loop", stopped)
            with pytest.raises(KeyboardInterrupt):
                stage(run)
            assert load_state_data(run.state(name))["step"] == stop and not restill.runs.phases.finished(run, name)
            monkeypatch.undo()
            run.append_log(
                {"stage": name, "step": stop + 1, "images": 0}
            )  # by a process that was killed before it saved
            stage(run)
            assert different(load_state(run.state(name))[0], load_state(made.state(name))[0]) == []
            assert load_state_data(run.state(name)) == load_state_data(made.state(name))
            networks = [load_network(one.stage(name)) for one in (run, made)]
            assert different(*(dict(network.state_dict()) for network, _ in networks)) == []
            assert networks[0][1] == networks[1][1]
    logs = []
    for one in (run, made):
        lines = [json.loads(line) for line in (one.path / "log.jsonl").read_text().splitlines()]
        logs.append([{k: v for k, v in row.items() if k not in ("time", "images_per_second")} for row in lines])
    assert logs[0] == logs[1]


def test_weights_that_do_not_fit_are_named(made: Run, tmp_path: Path) -> None:
    """One tensor more, one fewer, or one of another shape: never a network that is loaded in part."""
    network, config = load_network(made.stage("student"))
    save_network(tmp_path, network, config)
    path = tmp_path / "model.safetensors"
    tensors, data = load_state(path)
    name = "model.map_layer0.weight"
    mistakes = {
        "lacks the tensor": {key: value for key, value in tensors.items() if key != name},
        "has shape": {**tensors, name: tensors[name][..., :1].contiguous()},
        "holds the tensor": {**tensors, "more": torch.zeros(2)},
    }
    for message, wrong in mistakes.items():
        restill.checkpoint.save_state(path, wrong, data)
        with pytest.raises(UserError, match=message):
            load_network(tmp_path)
    restill.checkpoint.save_state(path, tensors, data)
    written = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(json.dumps({**json.loads(written), "format": 2}))
    with pytest.raises(UserError, match="has checkpoint format 2, but this restill reads 1"):
        load_network(tmp_path)
    (tmp_path / "config.json").write_text(written)
    assert different(dict(load_network(tmp_path)[0].state_dict()), dict(network.state_dict())) == []
