"""The denoiser `D(x_t; sigma)`: a preconditioned network together with how its input is built."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..core.tensors import on_grid
from ..corruption import Operator, Prior


class Denoiser(nn.Module):
    r"""`D(x_t, sigma, operator=None, labels=None)`, the estimate of :math:`E[x | x_t]`.

    The condition of a further corrupted operator (its mask) is concatenated to the channels here and nowhere else; the
    first `channels` outputs are the image.

    Args:
        net: preconditioned network, called as `net(x, sigma, class_labels, augment_labels=...)`, as `build_network`
            returns it; it has `channels` plus the operator's condition channels.
        channels: number of image channels `C`.
        sigma_data: standard deviation of the clean data, used by the loss weight (EDM, section 5).
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
        """What the preconditioning supposes of images."""
        return Prior.white(self.sigma_data) if self.power is None else Prior(cast(Tensor, self.power))

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
            x_t: noisy `[n, C, h, w]`, for masked problems as the operator sees them (`operator.seen`).
            sigma: noise level, a number or `[n]`.
            operator: the operators that the network is conditioned on, and whose domain it is.
            labels: class indices, int64 `[n]`, for class-conditional networks.
            augment: augmentation labels `[n, 9]`.

        Returns:
            `[n, C, h, w]`.
        """
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
        """What the network makes of `x_t` on the image grid, `[n, C, H, W]`: what a generator draws; as `forward`."""
        if operator is not None:
            x_t = operator.lift(x_t)
        one_hot = None
        if self.num_classes and labels is not None:
            one_hot = nn.functional.one_hot(labels, self.num_classes).to(x_t)
        condition = None if operator is None else operator.condition()
        if condition is not None:
            condition = on_grid(condition, x_t).to(x_t)
        sigma_N = torch.as_tensor(sigma, dtype=x_t.dtype, device=x_t.device).expand(len(x_t))
        with torch.autocast(x_t.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            if self.masked and condition is not None and operator is not None:
                return self._masked(x_t, sigma_N, condition, operator, one_hot, augment)
            x_in = x_t if condition is None else torch.cat([x_t, condition], dim=1)
            out = self.net(x_in, sigma_N, one_hot, augment_labels=augment)
        return cast(Tensor, out[:, : self.channels])

    def start(self, z: Tensor, sigma: float, operator: Operator) -> Tensor:
        """Where a generator starts from white noise `z` `[n, *noise_shape]`, `[n, C, h, w]`.

        Noise of level `sigma` (SiD), much larger than the deviation of images: to the network, a noisy image. Where
        their spectrum is known, so that some of their frequencies are larger still, noise of that level on a Gaussian
        image, of the same `z`.
        """
        noise = operator.noise(sigma * z)
        return noise if self.power is None else noise + operator.seen(self.prior.draw(operator.extract(z)))

    def _masked(
        self,
        x_t: Tensor,
        sigma: Tensor,
        condition: Tensor,
        operator: Operator,
        one_hot: Tensor | None,
        augment: Tensor | None,
    ) -> Tensor:
        """The preconditioned network with coefficients of their own for what is not shown."""
        x_t, condition = x_t.to(self.net.precision), condition.to(self.net.precision)  # type: ignore[arg-type]
        sigma = sigma.to(x_t)
        given, missing = self.prior.at(sigma), operator.missing()
        mean = operator.inverse(given.half(x_t), given)
        x_in = torch.cat([mean / self.sigma_data, condition], dim=1)
        c_noise = self.net.coefficients(sigma).c_noise  # type: ignore[operator]
        out = self.net.model(x_in, c_noise, one_hot, augment)[:, : self.channels].to(x_t)  # type: ignore[operator]
        if missing is not None:  # of measurements on a coarser grid, something lies there
            mean = mean.masked_fill(on_grid(missing, mean), 0.0)
        return given.half(mean + given.sigma * operator.inverse_root(out, given))
