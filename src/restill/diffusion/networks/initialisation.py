"""How the weights start: every block near the identity (up to its skip scale), so that training starts well."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import nn

Layer = nn.Linear | nn.Conv2d
LayerT = TypeVar("LayerT", bound=Layer)
Initialiser = Callable[[Layer], None]


@dataclass(frozen=True)
class Initialisation:
    """How the layers of a network are initialised; each function works in place.

    Attributes:
        hidden: all layers that are not named below.
        qkv: the joint query, key and value projection of attention.
        last: layers that end a residual branch, or the network.
        label: the embedding of class labels.
        augment: the embedding of augmentation labels.
    """

    hidden: Initialiser
    qkv: Initialiser
    last: Initialiser
    label: Initialiser
    augment: Initialiser


@torch.no_grad()
def xavier(layer: Layer, gain: float = 1.0) -> None:
    """Weights uniform with variance `2 gain^2 / (fan_in + fan_out)`, zero bias (Glorot & Bengio 2010)."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        layer.bias.zero_()


@torch.no_grad()
def zero(layer: Layer) -> None:
    """All weights and the bias zero."""
    for parameter in layer.parameters():
        parameter.zero_()


@torch.no_grad()
def standard_normal(layer: Layer) -> None:
    """Weights `N(0, 1)`, as in an embedding table; zero bias."""
    layer.weight.normal_()
    if layer.bias is not None:
        layer.bias.zero_()


def as_built(layer: Layer) -> None:
    """PyTorch's default: weights and bias uniform in `+-1/sqrt(fan_in)` (He et al. 2015 with a = sqrt 5)."""


def started(how: Initialiser, layer: LayerT) -> LayerT:
    """The layer, initialised."""
    how(layer)
    return layer


# Ho et al. 2020, Song et al. 2021: variance scaling with the mean fan. Their attention scales the variance of q, k and
# v, each C -> C, by 0.1; jointly they are C -> 3C with twice the mean fan, hence sqrt(0.2).
DDPM = Initialisation(
    hidden=xavier,
    qkv=partial(xavier, gain=math.sqrt(0.2)),
    last=partial(xavier, gain=1e-5),
    label=xavier,
    augment=xavier,
)

# Dhariwal & Nichol 2021: the framework's default, zeros at the end of each branch, a standard normal table of classes.
ADM = Initialisation(hidden=as_built, qkv=as_built, last=zero, label=standard_normal, augment=zero)
