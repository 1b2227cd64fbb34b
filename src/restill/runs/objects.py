"""From a recipe and a store to the teacher's network."""

from __future__ import annotations

import torch

from ..checkpoint import NetworkConfig
from ..core.errors import UserError
from ..core.tensors import mix_seed
from ..corruption import Corruption
from ..diffusion import NetworkDenoiser, Prior
from ..diffusion.networks import Given
from ..store import Store
from ..store.statistics import estimate_power, estimate_sigma_data
from ..training.augment import WIDTH
from .recipe import Recipe


def given_by(recipe: Recipe, corruption: Corruption, image_shape: tuple[int, ...], num_classes: int = 0) -> Given:
    """What the measurements of images `(C, H, W)` decide about the recipe's network, all but `sigma_data`."""
    network, shapes = recipe.network, corruption.shapes(image_shape)
    return Given(
        channels=image_shape[0] + shapes.condition,
        resolution=max(image_shape[1:]),
        classes=num_classes if network.class_conditional else 0,
        augment_labels=WIDTH if recipe.teacher.augment else 0,
    )


def network_config(recipe: Recipe, store: Store) -> NetworkConfig:
    """The teacher's configuration for a store."""
    network, corruption = recipe.network, store.corruption
    image_shape = tuple(store.manifest.image_shape)
    shapes = corruption.shapes(image_shape)
    given = given_by(recipe, corruption, image_shape, store.num_classes)
    if network.class_conditional and not given.classes:
        raise UserError(f"{store.path}: has no labels; set network.class_conditional to false")
    preconditioning = network.preconditioning if shapes.condition else "edm"
    power = estimate_power(store) if preconditioning == "masked" else None
    sigma_data = network.sigma_data
    if sigma_data is None:
        images = None if power is None else Prior.stationary(power, *image_shape[1:])
        sigma_data = estimate_sigma_data(store) if images is None else float(images.variance.mean().sqrt())
    cls, kwargs = network.arguments(given._replace(sigma_data=sigma_data))
    manifest = store.manifest
    return NetworkConfig(
        role="teacher",
        cls=cls,
        kwargs=kwargs,
        shape=shapes.domain,
        sigma_data=sigma_data,
        num_classes=given.classes,
        corruption=corruption.describe(),
        offset=manifest.normalisation.offset,
        scale=manifest.normalisation.scale,
        value_range=manifest.value_range,
        classes=manifest.classes,
        class_counts=store.class_counts if given.classes else None,
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


def build_denoiser(recipe: Recipe, store: Store) -> NetworkDenoiser:
    """The recipe's network for the measurements of a store, with initial weights that depend on the recipe's seed.

    Raises:
        UserError: the network does not fit the measurements, or the stated noise exceeds their variance.
    """
    return fresh_denoiser(network_config(recipe, store), recipe.seed)
