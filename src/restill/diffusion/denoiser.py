"""The abstract denoiser `D(x_t; sigma)`, and the preconditioned network that implements it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, cast, final

import torch
from torch import Tensor, nn

from ..core.tensors import on_grid
from ..corruption import Operator
from .preconditioning import Prior, posterior


class Noisy(NamedTuple):
    """The arguments of a denoiser."""

    x_t: Tensor
    """noisy `[n, c, h, w]` in the domain, as the operator sees it (`Operator.seen`)"""
    sigma: Tensor | float
    """noise level, a number or `[n]`"""
    operator: Operator | None = None
    """operators that the estimate is conditioned on, and whose domain it is; None for images without gaps"""
    labels: Tensor | None = None
    """classes, int64 `[n]`, of a class-conditional denoiser"""
    augment: Tensor | None = None
    """augmentation labels `[n, 9]`"""

    def part(self, index: Tensor) -> Noisy:
        """The arguments of some samples; `sigma` must be `[n]`."""
        return Noisy(
            self.x_t[index],
            torch.as_tensor(self.sigma)[index],
            None if self.operator is None else self.operator.select(index),
            None if self.labels is None else self.labels[index],
            None if self.augment is None else self.augment[index],
        )


class Denoiser(nn.Module, ABC):
    r"""`D(x_t, sigma, operator=None, labels=None)`, an estimate of :math:`E[x | x_t]`: a network or a closed form.

    Attributes:
        num_classes: number of classes that it is conditioned on, 0 for none.
    """

    num_classes: int = 0

    @property
    @abstractmethod
    def prior(self) -> Prior:
        """The Gaussian images that weigh residuals and from which a generator starts."""

    @abstractmethod
    def denoised(self, given: Noisy) -> Tensor:
        """The estimate in the domain, `[n, c, h, w]`."""

    @abstractmethod
    def image(self, given: Noisy) -> Tensor:
        """The estimate on the image grid, `[n, C, H, W]`; `denoised` is `project` of it."""

    @final  # type: ignore[misc]  # torch declares `forward` as an attribute
    def forward(
        self,
        x_t: Tensor,
        sigma: Tensor | float,
        operator: Operator | None = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Denoise in the domain of the measurements, `[n, c, h, w]`; `Noisy` has the arguments."""
        return self.denoised(Noisy(x_t, sigma, operator, labels, augment))

    @final
    def generated(
        self, z: Tensor, sigma: float, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        r"""The images that a one-step generator draws, :math:`G(z) = D(\sigma z; \sigma)` on the image grid (SiD, RSD).

        Args:
            z: white noise, in the white space of the operators `[n, ...]`.

        Returns:
            `[n, C, H, W]`.
        """
        levels = torch.full((len(z),), sigma, dtype=z.dtype, device=z.device)
        return self.image(Noisy(self.start(z, sigma, operator), levels, operator, labels))

    @final
    def start(self, z: Tensor, sigma: float, operator: Operator | None) -> Tensor:
        """Noise of level `sigma`, much larger than the deviation of images: to the network, a noisy image.

        Some frequencies of images with a known spectrum are larger still. There it is noise on a Gaussian image, both
        from the same `z`.
        """
        if operator is None:
            return sigma * z
        noise, prior = operator.noise(sigma * z), self.prior
        return noise + operator.seen(prior.draw(operator.extract(z))) if prior.variance.ndim else noise


class NetworkDenoiser(Denoiser):
    """A preconditioned network together with how its input is built.

    The condition of an operator (its mask) is concatenated to the channels here and nowhere else; the first `channels`
    outputs are the image.

    Args:
        net: preconditioned network, called as `net(x, sigma, class_labels, augment_labels=...)`, as `build_network`
            returns it; it has `channels` plus the operator's condition channels.
        channels: number of channels `C` of an image, on the image grid.
        sigma_data: standard deviation of the clean data.
        num_classes: number of classes of a class-conditional network, 0 otherwise.
        masked: whether the preconditioning models missing pixels or frequencies. A hidden one has infinite noise,
            `c_skip = 0` and `c_out = sigma_data`, and the mask is not multiplied by `c_in`. EDM's own preconditioning,
            as published, multiplies the prediction by `c_out`, which vanishes with sigma; it hardly fills gaps at small
            levels.
        prior: Gaussian images that this preconditioning assumes; white ones of `sigma_data` by default.

    Attributes:
        autocast: dtype of the network's convolutions and products, e.g. `torch.bfloat16`; None for that of the
            weights. Preconditioning and output stay in float32.
    """

    def __init__(
        self,
        net: nn.Module,
        channels: int,
        sigma_data: float = 0.5,
        num_classes: int = 0,
        masked: bool = False,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("power", None if prior is None else prior.variance.float(), persistent=False)
        self.masked = masked
        self.net = net
        self.channels = channels
        self.sigma_data = sigma_data
        self.num_classes = num_classes
        self.autocast: torch.dtype | None = None

    @property
    def prior(self) -> Prior:
        return Prior.white(self.sigma_data) if self.power is None else Prior(cast(Tensor, self.power))

    def denoised(self, given: Noisy) -> Tensor:
        image = self.image(given)
        return image if given.operator is None else given.operator.project(image)

    def image(self, given: Noisy) -> Tensor:
        operator = given.operator
        x = given.x_t if operator is None else operator.lift(given.x_t)
        labels = None
        if self.num_classes and given.labels is not None:
            labels = nn.functional.one_hot(given.labels, self.num_classes).to(x)
        condition = None if operator is None else operator.condition()
        if condition is not None:
            condition = on_grid(condition, x).to(x)
        sigma = torch.as_tensor(given.sigma, dtype=x.dtype, device=x.device).expand(len(x))
        given = given._replace(sigma=sigma, labels=labels)
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            if self.masked and condition is not None and operator is not None:
                return self._masked(given, operator, x, condition)
            x_in = x if condition is None else torch.cat([x, condition], dim=1)
            out = self.net(x_in, sigma, labels, augment_labels=given.augment)
        return cast(Tensor, out[:, : self.channels])

    def _masked(self, given: Noisy, operator: Operator, x: Tensor, condition: Tensor) -> Tensor:
        """The network between mean and deviation of Gaussian images, given what is shown of them.

        Args:
            given: with noise levels `[n]` and one-hot labels.
            x: the noisy images on the image grid.
            condition: what the network is shown beside them.
        """
        x, condition = x.to(self.net.precision), condition.to(self.net.precision)  # type: ignore[arg-type]
        sigma = torch.as_tensor(given.sigma).to(x)
        images = self.prior.at(sigma)
        known = posterior(operator, images, given.x_t, x)
        mean = known.inverse(images.half(x))
        x_in = torch.cat([mean / self.sigma_data, condition], dim=1)
        c_noise = self.net.coefficients(sigma).c_noise  # type: ignore[operator]
        out = self.net.model(x_in, c_noise, given.labels, given.augment)[:, : self.channels].to(x)  # type: ignore[operator]
        mean = known.visible(mean)  # of measurements on a coarser grid, something lies in the gaps
        return images.half(mean + images.sigma * known.inverse_root(out))
