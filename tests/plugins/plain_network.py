"""A network from outside the package: three convolutions, preconditioned as in EDM."""

import torch
from torch import Tensor, nn

from restill.core.settings import setting
from restill.diffusion.networks import CustomNetwork, Given


class Plain(nn.Module):
    def __init__(self, channels: int, width: int, sigma_data: float) -> None:
        super().__init__()
        self.sigma_data = sigma_data
        self.layers = nn.Sequential(
            nn.Conv2d(channels + 1, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )  # fmt: skip

    def forward(
        self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None, augment_labels: Tensor | None = None
    ) -> Tensor:
        s = sigma.reshape(-1, 1, 1, 1).to(x)
        variance = s**2 + self.sigma_data**2
        level = (s.log() / 4).expand(len(x), 1, *x.shape[2:])
        out = self.layers(torch.cat([x / variance.sqrt(), level], dim=1))
        return self.sigma_data**2 / variance * x + s * self.sigma_data / variance.sqrt() * out


class PlainNetwork(CustomNetwork, kind="plain"):
    """Small and quick."""

    width: int = setting(8, "channels of the hidden layers", gt=0)

    def build(self, given: Given) -> nn.Module:
        return Plain(given.channels, self.width, given.sigma_data)
