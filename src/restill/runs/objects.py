"""From a recipe to objects: the one place that chooses classes by name."""

from __future__ import annotations

import math

import torch

from ..checkpoint import NetworkConfig
from ..core.errors import UserError
from ..core.memory import keep_freed_memory
from ..core.tensors import mix_seed, right_broadcast
from ..corruption import Corruption, Mri, MriOperator, Prior
from ..diffusion import Denoiser
from ..estimation import RadialPower
from ..sampling import Heun, OneStep, Sampler
from ..store import Store
from .recipe_files import Recipe

_NUMBERS = 1 << 24  # in a batch of measurements that is looked through
_ARCHITECTURES: dict[str, dict[str, object]] = {
    "ddpmpp": {
        "model_type": "SongUNet",
        "embedding_type": "positional",
        "encoder_type": "standard",
        "decoder_type": "standard",
        "channel_mult_noise": 1,
        "resample_filter": [1, 1],
    },
    "ncsnpp": {
        "model_type": "SongUNet",
        "embedding_type": "fourier",
        "encoder_type": "residual",
        "decoder_type": "standard",
        "channel_mult_noise": 2,
        "resample_filter": [1, 3, 3, 1],
    },
    "adm": {"model_type": "DhariwalUNet"},
}


def device_of(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`. Raises UserError for a device that is unknown or not there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r} is not known: use auto, cpu, cuda or mps") from None
    there = {"cpu": True, "cuda": cuda, "mps": mps}.get(device.type, False)
    if not there or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"device {name!r} is not on this machine: use {'cuda, ' if cuda else ''}auto or cpu")
    return device


def estimate_sigma_data(store: Store) -> float:
    r"""Standard deviation of the clean data, :math:`\sigma_d^2 = var(y) - \sigma_n^2`, from measurements alone.

    In the domain, where the teacher denoises, and over observed pixels; of k-space what was measured of it counts.

    Raises:
        UserError: the stated noise is larger than all variation of the measurements.
    """
    count, total, squares, noise = 0.0, 0.0, 0.0, 0.0
    for batch in store.iterate(max(1, min(1024, _NUMBERS // math.prod(store.shape)))):
        y = batch.operator.to_domain(batch.y).double()
        unit = batch.operator.noise_variance(y)  # of noise of level 1
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


def network_arguments(
    recipe: Recipe, law: Corruption, image_shape: tuple[int, ...], num_classes: int = 0
) -> dict[str, object]:
    """Arguments of `EDMPrecond` but `sigma_data`, for the measurements by `law` of images `(C, H, W)`."""
    network, shape = recipe.network, law.domain_shape(image_shape)
    return {
        **_ARCHITECTURES[network.architecture],
        "img_resolution": max(image_shape[1:]),
        "img_channels": shape[0] + law.condition_channels(image_shape),
        "label_dim": num_classes,
        "model_channels": network.model_channels,
        "channel_mult": list(network.channel_mult),
        "num_blocks": network.num_blocks,
        "attn_resolutions": list(network.attn_resolutions),
        "dropout": network.dropout,
        "augment_dim": 9 if recipe.teacher.augment else 0,
    }


def network_config(recipe: Recipe, store: Store) -> NetworkConfig:
    """The teacher's configuration for a store."""
    network, law = recipe.network, store.corruption
    image_shape = tuple(store.manifest.image_shape)
    shape = law.domain_shape(image_shape)
    num_classes = store.num_classes if network.class_conditional else 0
    if network.class_conditional and not num_classes:
        raise UserError(f"{store.path}: has no labels; set network.class_conditional to false")
    preconditioning = network.preconditioning if law.condition_channels(image_shape) else "edm"
    power = estimate_power(store) if preconditioning == "masked" else None
    sigma_data = network.sigma_data or (estimate_sigma_data(store) if power is None else _deviation(power, image_shape))
    kwargs = network_arguments(recipe, law, image_shape, num_classes) | {"sigma_data": sigma_data}
    manifest = store.manifest
    return NetworkConfig(
        role="teacher",
        cls="EDMPrecond",
        kwargs=kwargs,
        shape=shape,
        sigma_data=sigma_data,
        num_classes=num_classes,
        corruption=law.describe(),
        offset=manifest.normalisation.offset,
        scale=manifest.normalisation.scale,
        value_range=manifest.value_range,
        classes=manifest.classes,
        preconditioning=preconditioning,
        power=power,
        image_shape=None if shape == image_shape else image_shape,
        complex_values=store.is_complex,
    )


def fresh_denoiser(config: NetworkConfig, seed: int) -> Denoiser:
    """The network with initial weights that depend on `seed` alone; torch's global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix_seed("initial weights", seed))
        return config.build()


def prepared(denoiser: Denoiser, recipe: Recipe, device: torch.device) -> Denoiser:
    """On the device, in the recipe's memory format and precision. Compilation is `compiled`'s."""
    denoiser.to(device)
    if device.type == "cpu":
        keep_freed_memory()
    if recipe.execution.channels_last:
        denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    denoiser.autocast = torch.bfloat16 if recipe.execution.precision == "bf16" else None
    return denoiser


def compiled(denoiser: Denoiser, recipe: Recipe) -> None:
    """Compile in place where the recipe asks for it; parameter names stay."""
    if recipe.execution.compile:
        denoiser.net.compile(dynamic=False)


def sampler_of(subject: str, num_steps: int, config: NetworkConfig) -> Sampler:
    """The sampler of `student`, `teacher-full` or `teacher-truncated`."""
    if subject == "student":
        if config.init_sigma is None:
            raise UserError("the student's config.json lacks init_sigma")
        return OneStep(config.init_sigma)
    return Heun(num_steps, stop_at=config.law().sigma_max if subject == "teacher-truncated" else 0.0)
