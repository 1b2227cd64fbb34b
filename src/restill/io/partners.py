"""What belongs to images, such as their masks, is found by the names of files; by position on purpose only."""

from __future__ import annotations

from ..core.errors import UserError
from .images import ImageSource
from .names import check_order, check_pairs, shortened, stem
from .reader import ImageReader


def check_partners(source: ImageSource, others: ImageSource, what: str) -> None:
    """That image `i` of `others` belongs to image `i` of `source`, by the names of their files (`check_pairs`).

    Where one of them is an array, and so has no names, the order of the other's files must be clear (`check_order`).

    Args:
        what: `others` in words, e.g. "masks".

    Raises:
        UserError: not so; says which do not pair, and what would be right.
    """
    if source.files is None or others.files is None:
        named = source.files or others.files or ()
        remedy = f"keep {what} and images in files of the same names"
        check_order([name for name, _ in named], others.name, what, remedy)
        return
    known = ImageReader.known_suffixes()
    ours, theirs = ([stem(name, known) for name, _ in files] for files in (source.files, others.files))
    check_pairs(ours, theirs, others.name, what)
    for (name, count), (other, found) in zip(source.files, others.files, strict=True):
        if count != found:
            raise UserError(
                f"{others.name}: {shortened(other)} holds {found:,} {what}, but {shortened(name)} {count:,} images; "
                "give one for each"
            )
