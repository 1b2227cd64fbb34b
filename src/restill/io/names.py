"""Names of files: their natural order, in which img2 comes before img10, and which of two sets belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from ..core.errors import UserError

Files = Sequence[tuple[str, int]]
"""Name, with suffix, and number of images of every file of a folder or archive, in natural order."""

Pairing = Literal["name", "position"]
"""How what belongs together is found: by the names of the files, or as the first, the second, ..., on purpose."""

POSITION: Final = "--pairing position"
_LONGEST = 40
_Key = tuple[tuple[str, int, str], ...]


def natural(name: str) -> tuple[_Key, str]:
    """A key to sort by, letter by letter, where a run of digits counts as a number."""
    return _key(re.findall(r"[0-9]+|.", name, re.DOTALL)), name


def _key(parts: Sequence[str]) -> _Key:
    """Numbers of any length are compared by their length and then by their digits."""
    return tuple(_word(part) for part in parts)


def _word(part: str) -> tuple[str, int, str]:
    if not (part.isascii() and part.isdigit()):
        return part, 0, ""
    digits = part.lstrip("0")
    return "0", len(digits), digits


def stem(name: str, suffixes: Sequence[str]) -> str:
    """`name` without the longest of `suffixes` that it ends with."""
    found = max((suffix for suffix in suffixes if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(found)]


def check_order(names: Sequence[str], where: str, what: str, remedy: str) -> None:
    """That files have one order, whether they are sorted by number or by letter: what has no names is paired by it.

    Args:
        names: of the files, in natural order, with suffixes.
        where: the file that holds what has no names.
        what: what has no names, e.g. "masks".
        remedy: how to give it names.

    Raises:
        UserError: they have not.
    """
    for by_number, by_letter in zip(names, sorted(names), strict=True):
        if by_number != by_letter:
            raise UserError(
                f"{where}: has {what} without names, but by letter {shortened(by_letter)} comes before "
                f"{shortened(by_number)}; {remedy}, or order by number with {POSITION}"
            )


def check_pairs(names: Sequence[str], others: Sequence[str], where: str, what: str) -> None:
    """That each of `names` belongs to the one of `others` at its place, both without suffixes and in natural order.

    They do if they are the same, or if the same is left of them without what all of `names`, and all of `others`,
    begin and end with: img_2 belongs to mask_002.

    Args:
        where: the file or folder of `others`, for messages.
        what: `others` in words, e.g. "masks".

    Raises:
        UserError: they do not; says which.
    """
    if list(names) == list(others) or _varying(names) == _varying(others):
        return
    left, right = _unpaired(names, others)
    if not left and not right:
        raise UserError(f"{where}: {what} have the names of the images, but in another order; give them the same names")
    lost = [f"{shortened(left[0])} has none{_more(left)}"] if left else []
    lost += [f"{shortened(right[0])} belongs to no image{_more(right)}"] if right else []
    raise UserError(
        f"{where}: {what} are paired with the images by name, but {', and '.join(lost)}; rename or remove, or pair "
        f"them in order with {POSITION}"
    )


def _unpaired(names: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of `names`, and those of `others`, that have no partner, as few as there are ways to compare them."""
    found = []
    for keys in (_varying, _whole):
        ours, theirs = (dict(zip(keys(some), some, strict=True)) for some in (names, others))
        left = [name for key, name in ours.items() if key not in theirs]
        found.append((left, [name for key, name in theirs.items() if key not in ours]))
    return min(found, key=lambda both: len(both[0]) + len(both[1]))


def _whole(names: Sequence[str]) -> list[_Key]:
    """Names as words, numbers, and what lies between them."""
    return [_key(re.findall(r"[0-9]+|[^\W_0-9]+|[\W_]", name)) for name in names]


def _varying(names: Sequence[str]) -> list[_Key]:
    """Names without the words that all of them begin with, and then those that all of them end with."""
    keys = _whole(names)
    if len(keys) < 2:
        return [()] * len(keys)
    keys = [key[_common(keys) :] for key in keys]
    last = _common([key[::-1] for key in keys])
    return [key[: len(key) - last] for key in keys]


def _common(keys: Sequence[_Key]) -> int:
    """How many parts all of them begin with."""
    alike = (len(set(parts)) == 1 for parts in zip(*keys, strict=False))
    return next((i for i, same in enumerate(alike) if not same), min(map(len, keys)))


def _more(some: Sequence[str]) -> str:
    return f" (nor {len(some) - 1:,} more)" if len(some) > 1 else ""


def shortened(name: str) -> str:
    """A name for messages; the middle of a long one is left out."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}...{name[-_LONGEST // 2 :]}"
