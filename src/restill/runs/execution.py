"""How the work is done, not what is done: devices, precision, compilation."""

from __future__ import annotations

from typing import Literal

import torch

from ..core.errors import UserError
from ..core.memory import keep_freed_memory
from ..core.settings import Section, setting
from ..diffusion import NetworkDenoiser


class ExecutionSettings(Section):
    """How the work is done, not what is done: may differ between the parts of a continued run."""

    section = "execution"

    device: str = setting("auto", "auto, cpu, cuda, cuda:1 or mps")
    precision: Literal["fp32", "bf16"] = setting("fp32", "precision of convolutions and matrix products in networks")
    channels_last: bool = setting(True, "whether networks use the channels-last memory format")
    compile: bool = setting(False, "whether to compile networks, which takes a minute or more at the start")
    checkpoint_every_s: float = setting(300.0, "time between checkpoints", gt=0, unit="seconds")
    log_every: int = setting(50, "interval between rows of the log", gt=0, unit="iterations")

    def place(self) -> torch.device:
        """The device. Raises UserError for one that is unknown or not on this machine."""
        name, cuda, mps = self.device, torch.cuda.is_available(), torch.backends.mps.is_available()
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

    def prepared(self, denoiser: NetworkDenoiser) -> NetworkDenoiser:
        """On the device, in the memory format and precision that are asked for. Compilation is `compiled`'s."""
        device = self.place()
        denoiser.to(device)
        if device.type == "cpu":
            keep_freed_memory()
        if self.channels_last:
            denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        denoiser.autocast = torch.bfloat16 if self.precision == "bf16" else None
        return denoiser

    def compiled(self, module: torch.nn.Module) -> None:
        """Compile what a module is made of in place, where it is asked for; parameter names stay."""
        if self.compile:
            for part in module.children():
                part.compile(dynamic=False)
