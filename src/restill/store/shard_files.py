"""The files that hold the samples of a store, checked against its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.reading import sha256
from .manifest import Manifest, Shard

PREFIX = "operator."  # of the names of the operators' parameters, all but sigma_n


def open_shards(path: Path, manifest: Manifest, verify: bool) -> list[dict[str, Tensor]]:
    """The tensors of every shard, memory-mapped.

    Raises:
        UserError: a shard is missing, damaged, or not what the manifest says.
    """
    shards = [_open_shard(path, manifest, shard, verify) for shard in manifest.shards]
    _check_alike(path, manifest, shards)
    return shards


def _open_shard(path: Path, manifest: Manifest, shard: Shard, verify: bool) -> dict[str, Tensor]:
    file = path / shard.file
    if not file.is_file():
        raise UserError(f"{file}: shard is missing; copy the store again or write it again")
    try:
        if verify and sha256(file) != shard.sha256:
            raise UserError(f"{file}: shard is damaged (its sha256 is not that of the manifest); write the store again")
        with safetensors.safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{file}: shard is damaged ({error}); write the store again") from error
    for name, shape in {"y": (shard.count, *manifest.shape), "sigma_n": (shard.count,)}.items():
        found = tensors.get(name)
        if found is None or tuple(found.shape) != shape or found.dtype != torch.float32:
            what = "is missing" if found is None else f"is {found.dtype} {tuple(found.shape)}"
            raise UserError(f"{file}: {name} {what}, but the manifest says float32 {shape}; write the store again")
    for name, value in tensors.items():
        if value.ndim == 0 or len(value) != shard.count:
            raise UserError(f"{file}: {name} does not hold {shard.count} samples as the manifest says; write it again")
    return tensors


def _check_alike(path: Path, manifest: Manifest, shards: list[dict[str, Tensor]]) -> None:
    def layout(tensors: dict[str, Tensor]) -> dict[str, Any]:
        return {name: (value.dtype, value.shape[1:]) for name, value in tensors.items()}

    for shard, tensors in zip(manifest.shards, shards, strict=True):
        if layout(tensors) != layout(shards[0]):
            names = json.dumps(sorted(tensors))
            raise UserError(
                f"{path / shard.file}: tensors {names} differ from the first shard's; write the store again"
            )
