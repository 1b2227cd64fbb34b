r"""Preconditioned networks, :math:`D(x; s) = c_{skip} x + c_{out} F(c_{in} x; c_{noise})` (Karras et al. 2022)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...core.errors import UserError
from ..preconditioning.edm import Coefficients, VariancePreserving, edm
from .adm import DhariwalUNet
from .song import SongUNet
from .unet import UNet, check_choice

ModelType = Literal["SongUNet", "DhariwalUNet"]
MODELS: dict[str, type[SongUNet] | type[DhariwalUNet]] = {"SongUNet": SongUNet, "DhariwalUNet": DhariwalUNet}


class Preconditioned(nn.Module, ABC):
    """A denoiser `D(x; sigma)` around a U-net `model`; subclasses give the coefficients.

    Attributes:
        model: the network `F`; parameters have the prefix `model.`.
        img_resolution: nominal image size; inputs may have another one (see `UNet.forward`).
        img_channels: channels of input and output.
        label_dim: number of classes, 0 for an unconditional network.
        sigma_min: the smallest noise level that the parametrisation covers.
        sigma_max: the largest.
    """

    sigma_min: float
    sigma_max: float

    def __init__(
        self,
        model_type: ModelType,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        model_kwargs: dict[str, Any],
    ) -> None:
        super().__init__()
        check_choice("model_type", model_type, MODELS)
        if img_channels < 1 or label_dim < 0:
            raise UserError(f"img_channels: {img_channels}, label_dim: {label_dim}; need at least 1 and 0")
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.label_dim = label_dim
        self.model: UNet = MODELS[model_type](
            img_resolution=img_resolution,
            in_channels=img_channels,
            out_channels=img_channels,
            label_dim=label_dim,
            **model_kwargs,
        )

    @abstractmethod
    def coefficients(self, sigma: Tensor) -> Coefficients:
        """The coefficients at noise levels of any shape."""

    @property
    def precision(self) -> torch.dtype:
        """The dtype of the preconditioning and of the output: float32, or float64 where the weights are float64."""
        return torch.float64 if self.model.map_layer0.weight.dtype == torch.float64 else torch.float32

    def forward(
        self,
        x: Tensor,
        sigma: Tensor | float,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Denoises.

        Preconditioning runs in float32 (in float64 if the weights are float64, for comparison with closed forms),
        whatever the dtype of the arguments; `model` runs in the dtype of its weights, or of the autocast around.

        Args:
            x: noisy images `[n, img_channels, H, W]`.
            sigma: noise levels: a number, or a tensor with 1 or `n` elements.
            class_labels: one-hot or soft, `[n, label_dim]`; None for zeros.
            augment_labels: `[n, augment_dim]`; None for zeros.

        Returns:
            Denoised images `[n, img_channels, H, W]`, float32 (or float64, see above).

        Raises:
            ValueError: on shapes that do not fit, and on labels for a network that has none.
        """
        dtype = self.precision
        x = x.to(dtype)
        sigma = torch.as_tensor(sigma, device=x.device).to(dtype).reshape(-1, 1, 1, 1)
        if len(sigma) not in (1, len(x)):
            raise ValueError(f"{len(x)} images need 1 or {len(x)} noise levels, not {len(sigma)}")
        c = self.coefficients(sigma)
        F_x = self.model(c.c_in * x, c.c_noise.flatten(), class_labels, augment_labels).to(dtype)
        return c.c_skip * x + c.c_out * F_x


class EDMPrecond(Preconditioned):
    """Preconditioning of Karras et al. 2022, table 1, column "Ours".

    Args, beside the attributes of `Preconditioned`:
        use_fp16: accepted so that published configurations load; precision is the caller's autocast, not a property
            of the network, so it has no effect.
        sigma_min, sigma_max: informative.
        sigma_data: standard deviation of the data.
        model_kwargs: of the U-net `model_type`.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
        sigma_data: float = 0.5,
        model_type: ModelType = "DhariwalUNet",
        **model_kwargs: Any,
    ) -> None:
        super().__init__(model_type, img_resolution, img_channels, label_dim, model_kwargs)
        if not 0 < sigma_data < math.inf:
            raise UserError(f"sigma_data: must be positive, not {sigma_data}")
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.sigma_data = sigma_data

    def coefficients(self, sigma: Tensor) -> Coefficients:
        return edm(sigma, self.sigma_data)


class VPPrecond(Preconditioned):
    r"""The variance-preserving process as a preconditioning (Karras et al. 2022, table 1, column "VP").

    :math:`\sigma(t)^2 = e^{\beta_d t^2 / 2 + \beta_{min} t} - 1`, `t` in `[epsilon_t, 1]`.

    Args, beside the attributes of `Preconditioned`:
        use_fp16: no effect, see `EDMPrecond`.
        beta_d: slope of the noise schedule.
        beta_min: its start.
        M: number of discrete times that the network was trained with; `c_noise = (M - 1) t`.
        epsilon_t: the smallest time.
        model_kwargs: of the U-net `model_type`.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        M: int = 1000,
        epsilon_t: float = 1e-5,
        model_type: ModelType = "SongUNet",
        **model_kwargs: Any,
    ) -> None:
        super().__init__(model_type, img_resolution, img_channels, label_dim, model_kwargs)
        self.process = VariancePreserving(beta_d, beta_min, M)
        self.sigma_min = float(self.process.level(epsilon_t))
        self.sigma_max = float(self.process.level(1.0))

    def coefficients(self, sigma: Tensor) -> Coefficients:
        return self.process.coefficients(sigma)
