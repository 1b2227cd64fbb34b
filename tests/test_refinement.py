"""Rounds of posterior samples: what each batch holds, and the stage of a run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import restill.cli.app as cli
from restill.core.errors import UserError
from restill.corruption import AdditiveNoise, Downsampling, Mask
from restill.diffusion import HandedOver
from restill.metrics import Estimate
from restill.objectives import AmbientTweedie, Draw
from restill.restoration.posterior_pool import write_posterior_samples
from restill.runs import Run, open_run, prepare_store, pretrain, refine, refining, trained, working_on
from restill.runs.subjects import subjects_of
from restill.sampling import Heun, Reverse
from restill.store import Store, open_store
from restill.training import Batches, Below, LowLevels, Pool, RefineSettings, TeacherTraining
from tiny import different, images, tiny_denoiser, tiny_recipe, tiny_store

FEW = {"rounds": 2, "images": 96, "batch_size": 16, "draws": 1, "reverse": {"num_steps": 3}}
SECTIONS = {
    "network": {"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
    "teacher": {"images": 64, "batch_size": 16},
    "student": {"select_samples": 32},
    "sampling": {"num_steps": 3, "batch_size": 32},
    "corruption": {"kind": "noise", "sigma_n": 0.4},
}


def refined(path: Path, **sections: object) -> Run:
    """A run with a teacher that was refined, or what is there of it continued."""
    source = path.with_name("images.npy")
    if not source.exists():
        np.save(source, images(48))
    data = {"source": str(source), "content": "clean"}
    with working_on(path, tiny_recipe(**{**SECTIONS, "data": data, "refine": FEW, **sections})) as run:
        prepare_store(run)
        pretrain(run)
        refine(run)
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.stage("refined") / "model.safetensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return refined(tmp_path_factory.mktemp("refined") / "run")


def pool_of(store: Store, folder: Path, spread: float = 1.0) -> Store:
    denoiser = tiny_denoiser(condition=int(isinstance(store.corruption, Mask)))
    write_posterior_samples(denoiser, store, Reverse(num_steps=3), folder / "pool", draws=2, spread=spread)
    return open_store(folder / "pool")


def test_levels_below_the_noise() -> None:
    """ln s is distributed as the square root of a uniform number between ends that the settings say."""
    drawn = LowLevels(lowest=0.05, band=1.2).drawn(20_000, 0.4, torch.Generator().manual_seed(0))
    place = (drawn / 0.02).log() / torch.tensor(0.48 / 0.02).log()
    assert place.min() >= 0 and place.max() <= 1
    torch.testing.assert_close(place.square().sort().values, torch.linspace(0, 1, 20_000), rtol=0, atol=0.02)


def test_a_batch_is_measurements_and_then_the_pool(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store", Mask(p=0.5, sigma_n=0.3))
    noiseless = pool_of(store, tmp_path)
    below = Below(0.3, LowLevels(), share=0.25)
    pool, batches = Pool(noiseless, 8, below, seed=1), Batches(store, 8)
    batch, own, others = pool.joined(batches.at(3), 3), batches.at(3), pool.batches.at(3)
    assert torch.equal(batch.y[:6], own.y[:6]) and torch.equal(batch.y[6:], others.y)
    masks = batch.operator.parameters()["mask"]
    assert torch.equal(masks[:6], own.operator.parameters()["mask"][:6])
    assert torch.equal(masks[6:], others.operator.parameters()["mask"])
    assert batch.operator.sigma_n.tolist() == pytest.approx([0.3] * 6 + [0] * 2)
    draw = Draw(torch.full((8,), 5.0), torch.randn(8, 1, 8, 8))
    lowered = below.lowered(draw, torch.Generator().manual_seed(0))
    assert torch.equal(lowered.noise, draw.noise) and torch.equal(lowered.sigma[:6], draw.sigma[:6])
    assert (lowered.sigma[6:] < 0.3 * 1.15).all()


def test_some_operators_have_no_noise() -> None:
    operator = Mask(p=0.5, sigma_n=0.3).draw(10, (1, 8, 8), torch.Generator().manual_seed(0))
    noiseless = Below(0.3, LowLevels(), share=0.5).noiseless(operator)
    assert noiseless.sigma_n.tolist() == pytest.approx([0.3] * 5 + [0] * 5)
    assert torch.equal(noiseless.parameters()["mask"], operator.parameters()["mask"])
    assert operator.sigma_n.min() > 0  # the given ones are left alone
    assert [Below(0.3, LowLevels(), share).count(8) for share in (1e-6, 0.5, 1 - 1e-6)] == [1, 4, 7]


def test_posterior_samples_belong_to_their_measurements(tmp_path: Path) -> None:
    """Operators, classes and order are the store's, `draws` times; nothing appears where nothing was seen."""
    store = tiny_store(tmp_path / "store", Mask(p=0.5, sigma_n=0.3), n=20, classes=3)
    pool, index = pool_of(store, tmp_path), torch.arange(20)
    batch = store.batch(index)
    for draw in (0, 1):
        drawn = pool.batch(20 * draw + index)
        mask = batch.operator.parameters()["mask"]
        assert torch.equal(drawn.operator.parameters()["mask"], mask) and not drawn.operator.sigma_n.any()
        assert drawn.labels is not None and batch.labels is not None and torch.equal(drawn.labels, batch.labels)
        assert not drawn.y[~mask].any() and drawn.y[mask].all()
    first, second = pool.batch(index).y, pool.batch(20 + index).y
    assert not torch.isclose(first, second)[batch.operator.parameters()["mask"]].any()


def test_spread_shrinks_samples_to_the_denoised_measurement(tmp_path: Path) -> None:
    store, index = tiny_store(tmp_path / "store", AdditiveNoise(sigma_n=0.3), n=20), torch.arange(20)
    drawn = {}
    for spread in (0.0, 0.5, 1.0):
        (tmp_path / str(spread)).mkdir()
        drawn[spread] = pool_of(store, tmp_path / str(spread), spread).batch(index).y
    batch = store.batch(index)
    mean = tiny_denoiser()(batch.y, batch.operator.sigma_n, batch.operator).detach()
    torch.testing.assert_close(drawn[0.0], mean)
    torch.testing.assert_close(drawn[0.5], (drawn[0.0] + drawn[1.0]) / 2)


def test_samples_of_the_pool_teach_and_measurements_too(tmp_path: Path) -> None:
    """The gradient of a joined batch is that of both parts, each at its own levels."""
    store = tiny_store(tmp_path / "store")
    seen: list[torch.Tensor] = []

    class Watching(AmbientTweedie, kind="watching"):
        def __call__(self, denoiser, y, operator, further, draw, labels=None, augment=None):  # type: ignore[no-untyped-def,override]
            seen.append(torch.stack([operator.sigma_n, draw.sigma]))
            return super().__call__(denoiser, y, operator, further, draw, labels, augment)

    settings = RefineSettings(images=32, batch_size=16, share=0.25)
    pool = Pool(pool_of(store, tmp_path), 16, settings.below(0.3), seed=0)
    recipe = tiny_recipe()
    training = TeacherTraining(
        tiny_denoiser(),
        Batches(store, 16),
        store.corruption,
        settings.as_teacher(recipe.teacher),
        Watching(),
        pool=pool,
    )
    training.advance()
    floor, sigma = seen[0]
    assert floor.tolist() == pytest.approx([0.3] * 12 + [0] * 4)
    assert (sigma[:12] > 0.3).all() and (sigma[12:] < 0.3 * 1.15).all()
    assert training.steps == 2 and training.settings.adam == settings.adam


def test_the_stage_of_a_run(made: Run) -> None:
    assert subjects_of(made) == ["teacher-full", "teacher-truncated", "teacher-refined"]
    generator = trained(made, "teacher-refined")
    assert isinstance(generator.denoiser, HandedOver) and generator.denoiser.at == pytest.approx(0.4)
    assert isinstance(generator.sampler, Heun) and generator.sampler.stop_at == pytest.approx(0.1)
    low = {name.removeprefix("low."): v for name, v in generator.denoiser.state_dict().items() if name[:4] == "low."}
    teacher = trained(made, "teacher-full").denoiser.state_dict()
    high = {name.removeprefix("high."): v for name, v in generator.denoiser.state_dict().items() if name[:5] == "high."}
    assert not different(high, teacher) and different(low, teacher)
    assert not list(made.path.rglob("pool"))  # as large as the store, and not needed any more
    rows = [row for row in made.read_log() if "proximal_frechet" in row]
    assert [row["stage"] for row in rows] == ["refined/round-1", "refined/round-2"][: len(rows)]
    kept = min(rows, key=lambda row: row["proximal_frechet"])["stage"]
    assert not different(weights(made), load_file(made.stage(kept) / "model.safetensors"))


class Killed(BaseException):
    """Ends a stage wherever it is."""


@pytest.mark.parametrize(
    "where",
    [
        "advance",
        "save_network",
        "open_store",
    ],
    ids=["in a round", "before a network is saved", "after a pool is written"],
)
def test_a_killed_refinement_continues_with_the_same_weights(
    where: str, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner: Any = TeacherTraining if where == "advance" else refining
    inner, killed = getattr(owner, where), 0
    for last in (2, 5):
        calls = itertools.count()

        def killing(*args: Any, calls: Iterator[int] = calls, last: int = last, **named: Any) -> Any:
            if next(calls) == last:
                raise Killed
            return inner(*args, **named)

        with monkeypatch.context() as patch:
            patch.setattr(owner, where, killing)
            try:
                refined(tmp_path / "run")
            except Killed:
                killed += 1
    assert killed
    assert not different(weights(refined(tmp_path / "run")), weights(made))


def test_rounds_end_when_the_distance_stops_falling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distances = iter([3.0, 2.0, 2.5])
    monkeypatch.setattr(refining._Rounds, "_measured", lambda *of: Estimate(next(distances), 0.1, "jackknife"))
    run = refined(tmp_path / "run", refine=FEW | {"rounds": 5, "images": 16})
    assert sorted(p.name for p in run.stage("refined").glob("round-*")) == ["round-1", "round-2", "round-3"]
    assert not different(weights(run), load_file(run.stage("refined/round-2") / "model.safetensors"))


def test_measurements_that_cannot_be_refined(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refine.rounds: must be 0, for the measurements have no noise"):
        refined(tmp_path / "run", corruption={"kind": "mask", "p": 0.5})
    store = tiny_store(tmp_path / "store", Downsampling(factor=2))
    with pytest.raises(UserError, match="noise is white as they are stored"):
        write_posterior_samples(tiny_denoiser(), store, Reverse(), tmp_path / "pool", draws=1)
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize(
    "corruption",
    [{"kind": "mask", "p": 0.5, "sigma_n": 0.3}, {"kind": "poisson", "gain": 0.1}],
    ids=["mask", "poisson"],
)
def test_other_corruptions(corruption: dict[str, object], tmp_path: Path) -> None:
    run = refined(tmp_path / "run", corruption=corruption, refine=FEW | {"rounds": 1, "images": 16})
    assert trained(run, "teacher-refined").sample(2).isfinite().all()


def test_the_command(made: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run_app(["refine", str(made.path)]) == 0
    assert "the refined teacher; next `restill evaluate" in capsys.readouterr().out
    assert (
        cli._run_app(
            ["sample", str(made.path), "-n", "2", "--sampler", "teacher-refined", "--out", str(tmp_path / "s")]
        )
        == 0
    )
    assert cli._run_app(["refine", str(made.path), "--set", "refine.rounds=0"]) == 2
    assert cli._run_app(["sample", str(made.path), "--sampler", "best", "--out", str(tmp_path / "t")]) == 2
    assert "must be one of l1-edm, teacher-full, teacher-truncated, teacher-refined, student" in capsys.readouterr().err
    assert json.loads((made.stage("refined") / "config.json").read_text())["role"] == "teacher"
    with pytest.raises(UserError, match=r"refine.spread"):
        RefineSettings(spread=(0.5, 1.5))
    assert [RefineSettings(spread=(0.5, 0.8)).spread_of(k) for k in range(4)] == [0.5, 0.8, 0.8, 0.8]
    assert open_run(made.path).recipe.refine.rounds == 2
