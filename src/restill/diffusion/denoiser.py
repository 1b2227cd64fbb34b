"""The denoiser `D(x_t; sigma)`, abstract, and the preconditioned network that is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast, final

import torch
from torch import Tensor, nn

from ..core.tensors import on_grid
from ..corruption import Operator
from .preconditioning import Prior, posterior


class Denoiser(nn.Module, ABC):
    r"""`D(x_t, sigma, operator=None, labels=None)`, an estimate of :math:`E[x | x_t]`: a network or a closed form.

    Attributes:
        num_classes: number of classes that it is conditioned on, 0 for none.
    """

    num_classes: int = 0

    @property
    @abstractmethod
    def prior(self) -> Prior:
        """What is supposed of images where its residuals are weighed, and where a generator starts."""

    @abstractmethod
    def forward(
        self,
        x_t: Tensor,
        sigma: Tensor | float,
        operator: Operator | None = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Denoise in the domain of the measurements, which is the image grid unless the operator has another one.

        Args:
            x_t: noisy `[n, c, h, w]`, as the operator sees it (`operator.seen`).
            sigma: noise level, a number or `[n]`.
            operator: the operators that the estimate is conditioned on, and whose domain it is; None for images of
                which nothing is missing.
            labels: class indices, int64 `[n]`, of class-conditional denoisers.
            augment: augmentation labels `[n, 9]`.

        Returns:
            `[n, c, h, w]`.
        """

    @abstractmethod
    def image(
        self,
        x_t: Tensor,
        sigma: Tensor | float,
        operator: Operator | None = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """The estimate on the image grid, `[n, C, H, W]`, as a generator draws it; `forward` is `project` of it."""

    @final
    def start(self, z: Tensor, sigma: float, operator: Operator) -> Tensor:
        """Where a generator starts from white noise `z`, in the white space of the operator: `[n, c, h, w]`.

        Noise of level `sigma` (SiD), much larger than the deviation of images: to the network, a noisy image. Where
        their spectrum is known, so that some of their frequencies are larger still, noise of that level on a Gaussian
        image, of the same `z`.
        """
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
        masked: whether the preconditioning knows of missing pixels. A pixel that is not shown is one of infinite noise:
            `c_skip = 0` and `c_out = sigma_data` there, and so is a frequency that is not shown. With EDM's own, as
            published, its prediction is multiplied by `c_out`, which vanishes with sigma, so that gaps are hardly
            filled at small levels. The mask itself is shown as it is instead of times `c_in`.
        prior: what this preconditioning supposes of images; white ones of `sigma_data` by default.

    Attributes:
        autocast: dtype in which the network's convolutions and products run, e.g. `torch.bfloat16`; None for that
            of the weights. Preconditioning and output stay in float32.
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

    def forward(
        self,
        x_t: Tensor,
        sigma: Tensor | float,
        operator: Operator | None = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        image = self.image(x_t, sigma, operator, labels, augment)
        return image if operator is None else operator.project(image)

    def image(
        self,
        x_t: Tensor,
        sigma: Tensor | float,
        operator: Operator | None = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        x = x_t if operator is None else operator.lift(x_t)
        one_hot = None
        if self.num_classes and labels is not None:
            one_hot = nn.functional.one_hot(labels, self.num_classes).to(x)
        condition = None if operator is None else operator.condition()
        if condition is not None:
            condition = on_grid(condition, x).to(x)
        sigma_N = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            if self.masked and condition is not None and operator is not None:
                return self._masked(x_t, x, sigma_N, condition, operator, one_hot, augment)
            x_in = x if condition is None else torch.cat([x, condition], dim=1)
            out = self.net(x_in, sigma_N, one_hot, augment_labels=augment)
        return cast(Tensor, out[:, : self.channels])

    def _masked(
        self,
        d: Tensor,
        x: Tensor,
        sigma: Tensor,
        condition: Tensor,
        operator: Operator,
        one_hot: Tensor | None,
        augment: Tensor | None,
    ) -> Tensor:
        """The network between mean and deviation of Gaussian images, given what is shown of them."""
        x, condition = x.to(self.net.precision), condition.to(self.net.precision)  # type: ignore[arg-type]
        sigma = sigma.to(x)
        given = self.prior.at(sigma)
        known = posterior(operator, given, d, x)
        mean = known.inverse(given.half(x))
        x_in = torch.cat([mean / self.sigma_data, condition], dim=1)
        c_noise = self.net.coefficients(sigma).c_noise  # type: ignore[operator]
        out = self.net.model(x_in, c_noise, one_hot, augment)[:, : self.channels].to(x)  # type: ignore[operator]
        mean = known.visible(mean)  # of measurements on a coarser grid, something lies in the gaps
        return given.half(mean + given.sigma * known.inverse_root(out))
