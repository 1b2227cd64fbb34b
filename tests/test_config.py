"""Recipes: shipped ones, overrides, and every kind of mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from restill.core.errors import UserError
from restill.objectives import DMD, SDS, AmbientTweedie, DistillationLoss, SiD, Standard
from restill.runs.recipe_files import Recipe, load_recipe, recipe_from, save_recipe, shipped_recipes
from restill.sampling.settings import HeunSampling

PUBLISHED = ["cifar10-noise", "ffhq64-noise", "celebahq64-noise", "afhqv2-noise"]


def test_the_promised_recipes_are_shipped() -> None:
    assert {"digits-noise", "tiny-noise", *PUBLISHED} <= set(shipped_recipes())


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_load_and_come_back(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.description
    corruption = recipe.build_corruption()
    assert corruption.sigma_max > 0 or corruption.kind != "noise"  # some corruption there is
    save_recipe(tmp_path / "recipe.yaml", recipe)
    assert load_recipe(tmp_path / "recipe.yaml") == recipe == load_recipe(tmp_path)
    saved = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert saved["teacher"]["adam"]["beta2"] == 0.999  # complete, defaults included
    assert saved["objective"]["kind"] == recipe.objective.kind == "ambient-tweedie"
    assert saved["student"]["loss"] == {"kind": "sid", "alpha": recipe.student.loss.alpha}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name: str) -> None:
    recipe = load_recipe(name)
    cifar, afhq = name == "cifar10-noise", name == "afhqv2-noise"
    network, teacher, student = recipe.network, recipe.teacher, recipe.student
    assert (network.kind, network.model_channels, network.num_blocks) == ("ddpmpp", 128, 4)
    assert network.attn_resolutions == (16,) and network.channel_mult == ((2, 2, 2) if cifar else (1, 2, 2, 2))
    dropout = {"cifar10-noise": 0.13, "ffhq64-noise": 0.05, "celebahq64-noise": 0.15, "afhqv2-noise": 0.25}
    assert network.dropout == dropout[name]
    assert teacher.images == 200_000_000 and student.images == 100_000_000
    assert teacher.batch_size == (512 if cifar else 256) and teacher.adam.lr == (1e-4 if cifar else 2e-4)
    assert teacher.adam.warmup_images == 10_000_000 and teacher.augment == (0.12 if cifar else 0.15)
    assert teacher.ema.halflife_images == student.ema.halflife_images == 500_000
    assert (student.init_sigma, student.tmax, student.loss_scale) == (2.5, 800, 100)
    assert student.loss == SiD(alpha=1.0 if afhq else 1.2)
    assert student.generator.lr == student.fake.lr == (5e-6 if afhq else 1e-5)
    assert student.generator.beta1 == (0.9 if name in ("ffhq64-noise", "celebahq64-noise") else 0.0)
    assert student.fake.beta1 == 0 and student.fake.beta2 == 0.999
    assert student.batch_size == (256 if cifar else 512)
    assert isinstance(recipe.sampling, HeunSampling) and recipe.sampling.num_steps == (18 if cifar else 40)


@pytest.mark.parametrize("level", [0.1, 0.2, 0.4])
def test_one_cifar_recipe_for_three_levels(level: float) -> None:
    assert load_recipe("cifar10-noise", [f"corruption.sigma_n={level}"]).build_corruption().sigma_n == level


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("teacher.adam.lr=1e-4", "teacher.adam.lr", 1e-4),
        ("teacher.adam.lr=2E-4", "teacher.adam.lr", 2e-4),
        ("teacher.adam.lr=1", "teacher.adam.lr", 1.0),
        ("corruption.sigma_n=1e-1", "corruption.sigma_n", 0.1),
        ("corruption.sigma_n=[0, 4e-1]", "corruption.sigma_n", [0, 0.4]),
        ("teacher.images=1_000", "teacher.images", 1000),
        ("network.channel_mult=[1, 2, 4]", "network.channel_mult", [1, 2, 4]),
        ("network.attn_resolutions=[]", "network.attn_resolutions", []),
        ("student.ema.rampup=null", "student.ema.rampup", None),
        ("data.source=a=b", "data.source", "a=b"),
        ("execution.compile=true", "execution.compile", True),
        ("execution.device=cuda:1", "execution.device", "cuda:1"),
    ],
)
def test_overrides_are_yaml(override: str, key: str, value: Any) -> None:
    assert load_recipe("digits-noise", [override]).value(key) == value


def test_the_last_override_wins() -> None:
    assert load_recipe("digits-noise", ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=1", "unknown key sed: did you mean seed?"),
        ("techer.images=5", "unknown key techer: did you mean teacher?"),
        ("teacher.image=5", "unknown key teacher.image: did you mean teacher.images?"),
        ("teacher.adam.learning_rate=1", "unknown key teacher.adam.learning_rate: did you mean teacher.adam."),
        (
            "teacher.consistency.wait=1",
            "unknown key teacher.consistency.wait: did you mean teacher.consistency.weight?",
        ),
        ("student.generator.grad_clp=1", "did you mean student.generator.grad_clip?"),
        ("corruption.sigma=1", "unknown key corruption.sigma: did you mean corruption.sigma_n?"),
        ("corruption.kind=nois", "corruption.kind: 'nois' is not a known kind: use one of"),
        ("corruption.sigma_n=-1", "corruption.sigma_n: must be at least 0, not -1"),
        ("corruption.sigma_n=.nan", "corruption.sigma_n: must be a finite number, not nan"),
        ("corruption.sigma_n=loud", "corruption.sigma_n: must be a number"),
        ("corruption.weights=[1, 2]", "corruption.weights: must hold one weight for each of the 1 sigma_n"),
        ("teacher.images=many", "teacher.images: must be a whole number"),
        ("teacher.images=true", "teacher.images: must be a whole number"),
        ("teacher.images='5'", "teacher.images: must be a whole number"),
        ("teacher.images=0", "teacher.images: must be above 0, not 0"),
        ("teacher.adam.lr=.inf", "teacher.adam.lr: must be a finite number"),
        ("teacher.adam.lr=fast", "teacher.adam.lr: must be a number"),
        ("teacher=5", "teacher: must be keys and values, not 5"),
        ("network.channel_mult=[]", "network.channel_mult: must hold at least 1, not 0"),
        ("network.channel_mult=[1, -2]", "network.channel_mult[1]: must be above 0, not -2"),
        (
            "network.architecture=unet",
            "network.architecture: 'unet' is not a known kind: use one of adm, ddpmpp, ncsnpp",
        ),
        ("execution.compile=yes please", "execution.compile: must be true or false"),
        ("execution.precision=fp8", "execution.precision: must be 'fp32' or 'bf16', not 'fp8'"),
        ("evaluation.seeds=[]", "evaluation.seeds: must hold at least 1, not 0"),
        ("student.tmax=1001", "student.tmax: must be at most 1000"),
        ("seed", "write it as key.path=value"),
        ("=1", "write it as key.path=value"),
        ("name.first=1", "'name' holds a value, not keys"),
        ("seed=[1", "the value is not YAML"),
        # combinations
        ("objective.kind=standard", "objective.kind standard also learns the noise"),
        ("teacher.accumulate=3", "teacher.accumulate: must divide batch_size 128, not 3"),
        ("student.accumulate=5", "student.accumulate: must divide batch_size 64, not 5"),
    ],
)
def test_mistakes_name_the_key_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("digits-noise", [override])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "a recipe must map keys to values"),
        ("", "a recipe must map keys to values"),
        ("name: [", "is not YAML"),
        ("seed: 1", "name: is missing"),
        ("name: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


def test_recipes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="digit-noise: no such recipe; did you mean 'digits-noise'"):
        load_recipe("digit-noise")
    with pytest.raises(UserError, match="no such recipe; shipped are afhqv2-noise"):
        load_recipe(tmp_path / "zzz.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(UserError, match=r"latin.yaml: is not text in UTF-8"):
        load_recipe(tmp_path / "latin.yaml")


def test_a_folder_named_like_a_recipe_is_not_mistaken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from restill.runs import open_run

    (tmp_path / "digits-noise").mkdir()
    save_recipe(tmp_path / "digits-noise" / "recipe.yaml", load_recipe("digits-noise", ["seed=5"]))
    monkeypatch.chdir(tmp_path)
    assert open_run(Path("digits-noise")).recipe.seed == 5


def test_what_makes_two_recipes_different() -> None:
    recipe = load_recipe("digits-noise")
    how = load_recipe("digits-noise", ["execution.device=cpu", "execution.precision=bf16"])
    assert recipe.differences(how) == []
    what = load_recipe("digits-noise", ["student.alpha=1.1", "corruption.weights=[1]"])
    assert recipe.differences(what) == ["student.loss.alpha", "corruption.weights"]


def test_names_choose_classes() -> None:
    def built(**sections: Any) -> Recipe:
        return recipe_from({"name": "x", **sections})

    assert built().objective == AmbientTweedie()
    flat = {"p_mean": 0.5, "floor": "clamp"}
    assert built(objective=flat).objective == AmbientTweedie(**flat)
    assert built(objective={"kind": "standard", **flat}).objective == Standard(**flat)
    assert built(objective="standard").objective == Standard()
    losses: dict[str, DistillationLoss] = {"sid": SiD(), "dmd": DMD(), "sds": SDS()}
    assert all(built(student={"loss": kind}).student.loss == loss for kind, loss in losses.items())


@pytest.mark.parametrize(
    ("student", "overrides", "loss"),
    [
        ({}, [], SiD()),
        ({"alpha": 1.0}, [], SiD(alpha=1.0)),
        ({"loss": "sid", "alpha": 1.0}, [], SiD(alpha=1.0)),
        ({"loss": {"kind": "sid", "alpha": 1.0}}, [], SiD(alpha=1.0)),
        ({"loss": {"alpha": 1.0}}, [], SiD(alpha=1.0)),
        ({"loss": "dmd", "alpha": 1.0}, [], DMD()),  # as recipes were saved
        ({"loss": "sid", "alpha": 1.0}, ["student.alpha=1.1"], SiD(alpha=1.1)),
        ({"loss": {"kind": "sid", "alpha": 1.0}}, ["student.alpha=1.1"], SiD(alpha=1.1)),
        ({"loss": {"alpha": 1.2}, "alpha": 1.2}, [], SiD(alpha=1.2)),
        ({"loss": "sid", "alpha": 1.0}, ["student.loss.alpha=1.1"], SiD(alpha=1.1)),
        ({"loss": "sid", "alpha": 1.0}, ["student.loss=dmd"], DMD()),
        ({"loss": "dmd"}, ["student.loss={kind: sid, alpha: 1.1}"], SiD(alpha=1.1)),
    ],
    ids=str,
)
def test_the_loss_as_it_was_and_is_written(
    tmp_path: Path, student: dict[str, Any], overrides: list[str], loss: DistillationLoss
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "student": student}))
    recipe = load_recipe(path, overrides)
    assert recipe.student.loss == loss
    save_recipe(path, recipe)
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"loss": "sidd"}, "student.loss: 'sidd' is not a known kind: use one of dmd, "),
        ({"loss": {"kind": "sid", "alpa": 1.0}}, "unknown key student.loss.alpa: did you mean student.loss.alpha?"),
        ({"loss": {"kind": "dmd", "alpha": 1.0}}, "unknown key student.loss.alpha"),
        ({"loss": {"kind": "sid", "alpha": 1.2}, "alpha": 1.0}, "student.alpha: is 1.0, but loss.alpha is 1.2"),
        ({"loss": {"kind": "sid", "alpha": "much"}}, "student.loss.alpha: must be a number, not 'much'"),
        ({"loss": 3}, "student.loss: must be a kind, or keys and values that include one"),
    ],
)  # fmt: skip
def test_losses_that_are_none(student: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe_from({"name": "x", "student": student})
    assert message in str(caught.value) and "\n" not in str(caught.value)
