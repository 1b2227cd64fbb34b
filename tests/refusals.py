"""How tests look at what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from restill.core.errors import UserError
from restill.corruption import corruption_from


def refused(description: Any, message: str, shape: tuple[int, ...] = (3, 8, 8)) -> UserError:
    """The error with which a law, or its use on images of `shape`, is refused, checked to be one line."""
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        law = corruption_from(description)
        law.draw(2, shape, torch.Generator().manual_seed(0))
    text = str(caught.value)
    assert "\n" not in text and 20 < len(text) < 400
    return caught.value
