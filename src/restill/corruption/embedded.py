"""Arrays inside plain data, so that a description of a corruption needs no other file."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic_core import core_schema
from torch import Tensor

MOST = {"bool": 1 << 30, "float32": 1 << 26}  # numbers that a description may unpack to
_TYPES = {"bool": np.dtype(bool), "float32": np.dtype("<f4")}


class Embedded:
    """An immutable array of booleans or float32 numbers that JSON and YAML can hold (zlib, base64); equal by value.

    Args:
        array: any shape; booleans stay, other numbers become float32.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        array = np.array(array, dtype=bool if array.dtype == bool else np.float32, order="C")
        array.setflags(write=False)
        self.array: NDArray[Any] = array
        self._on: dict[torch.device, Tensor] = {}
        self._hash: int | None = None

    def drawn(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` entries of the first axis, drawn at random, on the generator's device."""
        device = generator.device
        if device not in self._on:
            self._on[device] = torch.from_numpy(self.array.copy()).to(device)
        bank = self._on[device]
        return bank[torch.randint(len(bank), (n,), generator=generator, device=device)]

    def describe(self) -> dict[str, Any]:
        """Plain data that `read` turns back into an equal object."""
        name = "bool" if self.array.dtype == bool else "float32"
        raw = np.packbits(self.array).tobytes() if name == "bool" else self.array.astype("<f4").tobytes()
        packed = base64.b64encode(zlib.compress(raw, 9)).decode("ascii")
        return {"dtype": name, "shape": list(self.array.shape), "zlib": packed}

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> Embedded:
        """Inverse of `describe`. Raises ValueError if it is not what `describe` writes."""
        try:
            shape = tuple(int(size) for size in description["shape"])
            kind, count = _TYPES[description["dtype"]], math.prod(shape)
            length = 4 * count if kind.itemsize == 4 else -(-count // 8)
            if min(shape, default=1) < 0 or count > MOST[description["dtype"]]:
                raise ValueError(f"shape {list(shape)} is impossible")
            unpacker = zlib.decompressobj()
            raw = unpacker.decompress(base64.b64decode(description["zlib"], validate=True), length + 1)
            if len(raw) != length or not unpacker.eof:  # which also says that the checksum was right
                raise ValueError(f"its data do not fit the shape {list(shape)}")
        except (KeyError, TypeError, ValueError, OverflowError, zlib.error, binascii.Error) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise ValueError(f"is not an array in plain data ({reason}); take it from a store's manifest") from error
        if kind.itemsize == 4:
            return cls(np.frombuffer(raw, kind).reshape(shape))
        return cls(np.unpackbits(np.frombuffer(raw, np.uint8), count=count).view(bool).reshape(shape))

    @classmethod
    def _validated(cls, value: object) -> Embedded:
        if isinstance(value, Mapping):
            return cls.read(value)
        if isinstance(value, cls):
            return value
        raise ValueError(f"must be an array in plain data, as in a store's manifest, not {value!r}")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Embedded)
            and self.array.dtype == other.array.dtype
            and np.array_equal(self.array, other.array)
        )

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.array.shape, self.array.tobytes()))
        return self._hash

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """A field that holds an array, or its description."""
        return core_schema.no_info_plain_validator_function(
            cls._validated,
            serialization=core_schema.plain_serializer_function_ser_schema(cls.describe),
        )

    def __repr__(self) -> str:
        return f"Embedded({self.array.dtype}{list(self.array.shape)})"
