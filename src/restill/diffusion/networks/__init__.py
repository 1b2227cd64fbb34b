"""U-nets whose parameter names and numerics are those of the EDM family of checkpoints."""

from .adm import DhariwalUNet
from .architecture import Architecture, CustomNetwork, Given, UNetArchitecture
from .build import build_network
from .preconditioned import EDMPrecond, Preconditioned, VPPrecond
from .song import SongUNet
from .unet import UNet

__all__ = [
    "Architecture",
    "CustomNetwork",
    "DhariwalUNet",
    "EDMPrecond",
    "Given",
    "Preconditioned",
    "SongUNet",
    "UNet",
    "UNetArchitecture",
    "VPPrecond",
    "build_network",
]
