"""`read_levels`: noise levels in a file, one for each image; lines with a name find their images by it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..core.reading import read_text
from ..io import Files, ImageReader, Pairing, check_order, check_pairs, shortened
from ..io.arrays import numpy_arrays
from ..io.names import natural, stem

_REMEDY = "write lines 'name level' (text or CSV)"


def read_levels(path: Path, count: int, files: Files | None, pairing: Pairing) -> NDArray[np.float64]:
    """The levels of `count` images in order, or all numbers of the file where they are not as many.

    A text file holds numbers, apart by spaces, commas or lines, or lines "name level", in any order, perhaps as a
    table (CSV) with a heading; names are those of the images' files, with or without suffix. An `.npy` holds numbers.
    Numbers without names belong to the images in order, if the order of their files is clear (`check_order`).

    Args:
        files: that hold the images; None where these have no names.
        pairing: "position" if numbers without names are meant in the order by number.

    Raises:
        UserError: no such file, nothing but numbers where names are needed, or names that do not pair with the images.
        ValueError: no numbers.
    """
    if path.suffix.lower() == ".npy":
        values = _array(path)
    else:
        rows = _rows(read_text(path))
        if _named(rows, count, files):
            return _by_name(path, rows, files)
        values = np.array([_number(word) for row in _without_heading(rows) for word in row])
    if values.size == count > 1 and files is not None and pairing == "name":
        check_order([name for name, _ in files], f"sigma_n ({path})", "levels", _REMEDY)
    return values


def _array(path: Path) -> NDArray[Any]:
    with numpy_arrays(str(path), path, "levels") as arrays:
        if len(arrays) != 1:
            raise ValueError(f"it holds arrays {', '.join(arrays) or 'none'}")
        (array,) = arrays.values()
        if array.dtype.kind not in "buif":
            raise ValueError(f"it holds {array.dtype}")
        return np.asarray(array[()])


def _rows(text: str) -> list[list[str]]:
    """Lines as words: apart by the first of tabs, semicolons and commas that the text has, else by spaces."""
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip() and not line.startswith("#")]
    mark = next((mark for mark in "\t;," if any(mark in line for line in lines)), None)
    if mark is not None:
        return [[word.strip() for word in row if word.strip()] for row in csv.reader(lines, delimiter=mark)]
    if all(map(_is_number, " ".join(lines).split())):
        return [line.split() for line in lines]
    return [line.rsplit(None, 1) for line in lines]


def _named(rows: Sequence[Sequence[str]], count: int, files: Files | None) -> bool:
    """Whether rows begin with names. Names that are numbers too are told by there being as many rows as files."""
    if not all(_is_number(row[0]) for row in _without_heading(rows) if row):
        return True
    return files is not None and len(_without_heading(rows)) == len(files) and all(len(row) == 2 for row in rows)


def _without_heading(rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    return rows[1:] if len(rows) > 1 and rows[0] and not _is_number(rows[0][-1]) else rows


def _by_name(path: Path, rows: Sequence[Sequence[str]], files: Files | None) -> NDArray[np.float64]:
    known = ImageReader.known_suffixes()
    levels: dict[str, float] = {}
    for row in _without_heading(rows):
        if len(row) != 2 or not _is_number(row[1]):
            raise ValueError(f"the line {shortened(' '.join(row))!r} is not 'name level'")
        name = stem(row[0].replace("\\", "/").removeprefix("./"), known)
        if name in levels:
            raise UserError(f"sigma_n ({path}): names {shortened(row[0])} twice; keep one level for each image")
        levels[name] = float(row[1])
    if files is None:
        raise UserError(f"sigma_n ({path}): names images, but these have no names; give one number per image, in order")
    names = sorted(levels, key=natural)
    check_pairs([stem(name, known) for name, _ in files], names, f"sigma_n ({path})", "levels")
    return np.repeat([levels[name] for name in names], [count for _, count in files])


def _is_number(word: str) -> bool:
    try:
        _number(word)
    except ValueError:
        return False
    return True


def _number(word: str) -> float:
    if "_" in word:  # which Python would accept within a number
        raise ValueError(f"could not convert string to float: {word!r}")
    return float(word)
