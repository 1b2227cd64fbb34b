"""U-nets whose parameter names and numerics are those of the EDM family of checkpoints."""

from .adm import DhariwalUNet
from .build import build_network
from .preconditioning import EDMPrecond, Preconditioned, VPPrecond
from .song import SongUNet
from .unet import UNet

__all__ = ["DhariwalUNet", "EDMPrecond", "Preconditioned", "SongUNet", "UNet", "VPPrecond", "build_network"]
