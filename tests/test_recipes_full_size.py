"""The papers' experiments as recipes: settings, corruptions, and the exact sizes of their networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from restill.core.errors import UserError
from restill.corruption import Blur, Downsampling, Mask, Mri
from restill.diffusion.networks import build_network
from restill.runs.objects import given_by, network_config
from restill.runs.recipe_files import load_recipe, shipped_recipes
from tiny import tiny_store

CIFAR, OTHERS = (3, 32, 32), (3, 64, 64)
PARAMETERS = {CIFAR: 55_733_891, OTHERS: 61_805_571}  # of the papers' networks, augmentation labels included
CELEBA = ["inpainting", "inpainting-noise", "deblurring", "deblurring-noise", "superresolution", "noise"]
FULL_SIZE = ["cifar10-noise", "ffhq64-noise", "afhqv2-noise", *(f"celebahq64-{problem}" for problem in CELEBA)]


def shape_of(name: str) -> tuple[int, int, int]:
    return CIFAR if name.startswith("cifar10") else OTHERS


def parameters(name: str, *overrides: str) -> int:
    recipe = load_recipe(name, overrides)
    with torch.device("meta"):
        network = build_network(*recipe.network.arguments(given_by(recipe, recipe.build_corruption(), shape_of(name))))
    return sum(p.numel() for p in network.parameters())


def test_every_published_experiment_on_natural_images_is_there() -> None:
    assert set(FULL_SIZE) <= set(shipped_recipes())
    prefixes = ("cifar10", "celebahq64", "ffhq64", "afhqv2")
    assert {name for name in shipped_recipes() if name.startswith(prefixes)} == set(FULL_SIZE)


@pytest.mark.parametrize("name", [name for name in FULL_SIZE if "inpainting" not in name])
def test_parameters_are_the_papers(name: str) -> None:
    assert parameters(name) == PARAMETERS[shape_of(name)]


@pytest.mark.parametrize("name", ["celebahq64-inpainting", "celebahq64-inpainting-noise"])
def test_a_mask_adds_the_weights_of_its_channels_alone(name: str) -> None:
    """2C channels in and out (Ambient Diffusion): 3 more planes of 3x3 weights at either end, and 3 biases."""
    width, channels, taps = 128, 3, 3 * 3
    first, last = width * channels * taps, width * channels * taps + channels
    assert parameters(name) == PARAMETERS[OTHERS] + first + last == 61_812_486


@pytest.mark.parametrize("acceleration", [2, 4, 6, 8])
def test_brains(acceleration: int) -> None:
    """The papers' network for MRI: 4 channels in and out, of plain convolutions; R by one key."""
    recipe = load_recipe("fastmri-brain", [f"corruption.acceleration={acceleration}"])
    shape = (2, *(recipe.data.crop or ()))
    with torch.device("meta"):
        network = build_network(*recipe.network.arguments(given_by(recipe, recipe.build_corruption(), shape)))
    assert sum(p.numel() for p in network.parameters()) == 20_014_980
    law = recipe.build_corruption()
    assert shape == (2, 384, 320) and law == Mri(acceleration=acceleration, acs=20, coils=4)
    assert law.shapes(shape).condition + shape[0] == 4
    teacher, student = recipe.teacher, recipe.student
    assert (teacher.batch_size, teacher.adam.grad_clip, teacher.augment) == (8, 1.0, 0.0)
    assert (student.batch_size, student.generator.grad_clip) == (24, 1.0)


def test_augmentation_labels_are_part_of_the_count() -> None:
    assert PARAMETERS[CIFAR] - parameters("cifar10-noise", "teacher.augment=0") == 128 * 9


@pytest.mark.parametrize("problem", CELEBA)
def test_celebahq_settings(problem: str) -> None:
    """One set of settings for all problems but clipping, which is published for inpainting alone."""
    recipe, noise = load_recipe(f"celebahq64-{problem}"), load_recipe("celebahq64-noise")
    clipped = ["teacher.adam.grad_clip"] if "inpainting" in problem else []
    own = [key for key in noise.differences(recipe) if not key.startswith("corruption.")]
    assert own == (["name"] if problem != "noise" else []) + clipped
    assert recipe.teacher.adam.grad_clip == (1.0 if clipped else None)
    assert recipe.student.generator.grad_clip is None
    assert recipe.data.resize == 64 and f"restill info celebahq64-{problem}" in recipe.description


def test_corruptions() -> None:
    laws = {problem: load_recipe(f"celebahq64-{problem}").build_corruption() for problem in CELEBA}
    assert laws["inpainting"] == Mask(p=0.6, delta=0.1, pattern="pixels")
    assert laws["inpainting-noise"] == Mask(p=0.9, delta=0.1, sigma_n=0.2)
    assert laws["deblurring"] == Blur(kernel="gaussian", size=9, std=2.0, boundary="reflect")
    assert laws["deblurring-noise"] == Blur(kernel="gaussian", size=9, std=2.0, boundary="reflect", sigma_n=0.2)
    assert laws["superresolution"] == Downsampling(factor=2, method="average")
    assert {problem: law.sigma_max for problem, law in laws.items()} == {
        problem: 0.2 if "noise" in problem else 0.0 for problem in CELEBA
    }
    assert {problem: law.shapes(OTHERS).observation for problem, law in laws.items()} == {
        problem: (3, 32, 32) if problem == "superresolution" else OTHERS for problem in CELEBA
    }


@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_law_draws_full_size_images(name: str) -> None:
    law, shape, generator = load_recipe(name).build_corruption(), shape_of(name), torch.Generator().manual_seed(0)
    operator = law.draw(2, shape, generator)
    y = law.corrupt(torch.zeros(2, *shape), operator, generator)
    assert y.shape[1:] == law.shapes(shape).observation
    assert operator.to_domain(y).shape[1:] == law.shapes(shape).domain
    condition = operator.condition()
    assert law.shapes(shape).condition == (0 if condition is None else condition.shape[1])
    noise = y[operator.restrict(torch.ones_like(y)).bool()]  # of black images' measurements nothing else is left
    assert len(noise) > 1000 and float(noise.square().mean().sqrt()) == pytest.approx(law.sigma_max, rel=0.1)
    assert torch.equal(operator.restrict(y), y)


@pytest.mark.parametrize(
    ("name", "override", "key", "value"),
    [
        ("celebahq64-inpainting", "corruption.p=0.8", "p", 0.8),
        ("celebahq64-inpainting", "corruption.p=0.9", "p", 0.9),
        ("celebahq64-inpainting", "corruption.sigma_n=0.2", "sigma_n", 0.2),
        ("celebahq64-deblurring", "corruption.sigma_n=0.2", "sigma_n", 0.2),
        ("celebahq64-superresolution", "corruption.method=bicubic", "method", "bicubic"),
        ("celebahq64-superresolution", "corruption.sigma_n=0.1", "sigma_n", 0.1),
        ("cifar10-noise", "corruption.sigma_n=0.4", "sigma_n", 0.4),
    ],
)
def test_other_columns_of_the_tables_by_an_override(name: str, override: str, key: str, value: object) -> None:
    assert getattr(load_recipe(name, [override]).build_corruption(), key) == value


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("celebahq64-inpainting", "corruption.p=1.0", "corruption.p: must be below 1, not 1.0"),
        ("celebahq64-inpainting", "corruption.rate=0.8", "unknown key corruption.rate: did you mean"),
        ("celebahq64-deblurring", "corruption.size=8", "corruption.size"),
        ("celebahq64-superresolution", "corruption.factor=1", "corruption.factor: must be at least 2, not 1"),
        ("celebahq64-deblurring-noise", "objective.kind=standard", "use ambient-tweedie"),
    ],
)
def test_impossible_overrides_name_their_key(name: str, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(name, [override])
    assert str(caught.value).startswith(f"{name}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("problem", ["inpainting", "superresolution"])
def test_what_is_counted_is_what_is_trained(problem: str, tmp_path: Path) -> None:
    recipe = load_recipe(f"celebahq64-{problem}")
    store = tiny_store(tmp_path / "store", recipe.build_corruption(), shape=(3, 16, 16))
    config = network_config(recipe, store)
    given = given_by(recipe, recipe.build_corruption(), (3, 16, 16))._replace(sigma_data=config.sigma_data)
    assert (config.cls, config.kwargs) == recipe.network.arguments(given)
