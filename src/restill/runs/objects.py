"""From a recipe and a store to the teacher's network."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checkpoint import NetworkConfig
from ..core.errors import UserError
from ..core.tensors import mix_seed, right_broadcast, seeded
from ..corruption import Corruption, Mri, MriOperator, Operator
from ..diffusion import NetworkDenoiser, Prior
from ..diffusion.networks import Given
from ..estimation import RadialPower
from ..sampling import OneStep, Sampler
from ..sampling.settings import SamplingSettings
from ..store import Store
from ..training.augment import WIDTH
from .recipe import Recipe

_NUMBERS = 1 << 24  # in a batch of measurements that is looked through


def estimate_sigma_data(store: Store) -> float:
    r"""Standard deviation of the clean data, :math:`\sigma_d^2 = var(y) - \sigma_n^2`, from measurements alone.

    In the domain, where the teacher denoises, and over what was observed of it. How noise lies there is known where
    single pixels are observed; elsewhere noise is drawn, which over a store leaves next to no error.

    Raises:
        UserError: the stated noise is larger than all variation of the measurements.
    """
    count, total, squares, noise, generator = 0.0, 0.0, 0.0, 0.0, seeded("sigma_data")
    for batch in store.iterate(max(1, min(1024, _NUMBERS // math.prod(store.shape)))):
        y = batch.operator.to_domain(batch.y).double()
        unit = _unit_noise(batch.operator, y, generator)
        count += float((unit > 0).sum())
        total += float(y.sum())
        squares += float(y.square().sum())
        noise += float((right_broadcast(batch.operator.sigma_n.double() ** 2, y) * unit).sum())
    variance = squares / count - (total / count) ** 2
    if variance <= noise / count:
        raise UserError(
            f"{store.path}: the stated noise (variance {noise / count:.3g}) exceeds the variance of the measurements "
            f"({variance:.3g}); state a smaller sigma_n"
        )
    return float((variance - noise / count) ** 0.5)


def _unit_noise(operator: Operator, y: Tensor, generator: torch.Generator) -> Tensor:
    """Square of noise of level 1 in the domain, like `y`: its mean where single pixels are observed, else one draw."""
    if operator.white_domain:
        return operator.seen(torch.ones_like(y))
    white = operator.embed(y)
    return operator.noise(torch.randn(white.shape, generator=generator, dtype=white.dtype)).square()


def estimate_power(store: Store) -> tuple[float, ...] | None:
    """Power spectrum of the complex images of a store of k-space, by radius; None for stores of other measurements."""
    if not isinstance(store.corruption, Mri):
        return None
    power = RadialPower(*store.image_shape[1:])
    for batch in store.iterate(store.block):
        assert isinstance(batch.operator, MriOperator)
        power.add(batch.y, batch.operator.mask, batch.operator.sigma_n)
    try:
        return power.profile()
    except UserError as error:
        raise UserError(f"{store.path}: {error}") from None


def _deviation(power: tuple[float, ...], image_shape: tuple[int, ...]) -> float:
    return float(Prior.stationary(power, *image_shape[1:]).variance.mean().sqrt())


def given_by(recipe: Recipe, law: Corruption, image_shape: tuple[int, ...], num_classes: int = 0) -> Given:
    """What measurements by `law` of images `(C, H, W)` decide of the recipe's network; `sigma_data` is left open."""
    network, shapes = recipe.network, law.shapes(image_shape)
    return Given(
        channels=image_shape[0] + shapes.condition,
        resolution=max(image_shape[1:]),
        classes=num_classes if network.class_conditional else 0,
        augment_labels=WIDTH if recipe.teacher.augment else 0,
    )


def network_config(recipe: Recipe, store: Store) -> NetworkConfig:
    """The teacher's configuration for a store."""
    network, law = recipe.network, store.corruption
    image_shape = tuple(store.manifest.image_shape)
    shapes = law.shapes(image_shape)
    given = given_by(recipe, law, image_shape, store.num_classes)
    if network.class_conditional and not given.classes:
        raise UserError(f"{store.path}: has no labels; set network.class_conditional to false")
    preconditioning = network.preconditioning if shapes.condition else "edm"
    power = estimate_power(store) if preconditioning == "masked" else None
    sigma_data = network.sigma_data or (estimate_sigma_data(store) if power is None else _deviation(power, image_shape))
    cls, kwargs = network.arguments(given._replace(sigma_data=sigma_data))
    manifest = store.manifest
    return NetworkConfig(
        role="teacher",
        cls=cls,
        kwargs=kwargs,
        shape=shapes.domain,
        sigma_data=sigma_data,
        num_classes=given.classes,
        corruption=law.describe(),
        offset=manifest.normalisation.offset,
        scale=manifest.normalisation.scale,
        value_range=manifest.value_range,
        classes=manifest.classes,
        preconditioning=preconditioning,
        power=power,
        image_shape=None if shapes.domain == image_shape else image_shape,
        complex_values=store.is_complex,
    )


def fresh_denoiser(config: NetworkConfig, seed: int) -> NetworkDenoiser:
    """The network with initial weights that depend on `seed` alone; torch's global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix_seed("initial weights", seed))
        return config.build()


def sampler_of(subject: str, section: SamplingSettings, config: NetworkConfig) -> Sampler:
    """The sampler of `student`, `teacher-full` or `teacher-truncated`."""
    if subject == "student":
        if config.init_sigma is None:
            raise UserError("the student's config.json lacks init_sigma")
        return OneStep(init_sigma=config.init_sigma)
    return section.of_teacher(config.law().sigma_max if subject == "teacher-truncated" else 0.0)
