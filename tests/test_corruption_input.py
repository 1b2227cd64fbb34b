"""What a user gets wrong about a corruption is said in one line that names the key or file and what would be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from operators_list import COLOUR_MASKS, KERNEL, MASKS
from refusals import refused
from restill.core.errors import UserError
from restill.corruption import Blur, Compose, Embedded, Mask, Poisson

FILES = {"kind": "mask", "pattern": "files"}
CHAIN = "corruption.operators"


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (3, "corruption: must be a kind, or keys and values that include one, {kind: ...}, not 3"),
        (None, "corruption: must be a kind, or keys and values that include one, {kind: ...}, "),
        ({}, "corruption.kind: is missing: use one of blur, compose, custom-blur, custom"),
        ({"kind": ["noise"]}, "corruption.kind: ['noise'] is not a known kind: use one of blur, compose, cus"),
        ({"kind": "masks"}, "use one of"),
        ({"kind": "mask", "rate": 0.5}, "unknown key corruption.rate: did you mean corruption.pattern?"),
        ({"kind": "noise", 1: 2}, "corruption[1]: keys should be strings, not 1"),
        ({"kind": "noise", "sigma_n": "0.2"}, "corruption.sigma_n: must be a number, not '0.2'"),
        ({"kind": "noise", "sigma_n": None}, "corruption.sigma_n: must be a number, not None"),
        ({"kind": "noise", "sigma_n": True}, "corruption.sigma_n: must be a number, not True"),
        ({"kind": "noise", "sigma_n": []}, "corruption.sigma_n: is an empty list; state a number, or several"),
        ({"kind": "noise", "sigma_n": [0.1, -1]}, "corruption.sigma_n: must be at least 0, not -1"),
        ({"kind": "noise", "sigma_n": float("inf")}, "corruption.sigma_n: must be a finite number, not inf"),
        ({"kind": "noise", "weights": 1}, "corruption.weights: must be a list, not 1"),
        ({"kind": "noise", "weights": "ab"}, "corruption.weights: must be a list, not 'ab'"),
        (
            {"kind": "noise", "weights": [1, 2]},
            "corruption.weights: must hold one weight for each of the 1 sigma_n, not al",
        ),
        ({"kind": "noise", "sigma_n": [0, 1], "weights": [0, 0]}, "each of the 2 sigma_n, not all 0; it is [0.0, 0.0]"),
        ({"kind": "noise", "clean_fraction": 1.5}, "corruption.clean_fraction: must be at most 1, not 1.5"),
        ({"kind": "noise", "clean_fraction": "half"}, "corruption.clean_fraction: must be a number, not 'half'"),
        (
            {"kind": "poisson", "clean_fraction": 0.1},
            "corruption.clean_fraction: measurements of kind poisson cannot be clean im",
        ),
        (
            {"kind": "downsampling", "clean_fraction": 0.1},
            "corruption.clean_fraction: measurements of kind downsampling cannot be cle",
        ),
        (
            {"kind": "function", "name": "f", "clean_fraction": 0.1},
            "corruption.clean_fraction: measurements of kind function cannot be clean i",
        ),
        (
            {"kind": "custom-mask", "clean_fraction": 0.1},
            "corruption.clean_fraction: measurements of kind custom-mask cannot be clea",
        ),
    ],
)
def test_any_corruption(description: Any, message: str) -> None:
    refused(description, message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"p": 1}, "corruption.p: must be below 1, not 1"),
        ({"p": -0.1}, "corruption.p: must be at least 0, not -0.1"),
        ({"p": "0.5"}, "corruption.p: must be a number, not '0.5'"),
        ({"p": None}, "corruption.p: must be a number, not None"),
        ({"p": float("nan")}, "corruption.p: must be a finite number, not nan"),
        ({"p": []}, "corruption.p: is an empty list; state a number, or several"),
        ({"p": [0.5, 60]}, "corruption.p: must be below 1, not 60"),
        ({"delta": 0}, "corruption.delta: must be above 0, not 0"),
        ({"delta": 1.0}, "corruption.delta: must be below 1, not 1.0"),
        ({"size": 0}, "corruption.size: must be at least 1, not 0"),
        ({"size": 2.5}, "corruption.size: must be a whole number, not 2.5"),
        ({"pattern": "lines"}, "corruption.pattern: must be 'pixels', 'box', 'centre-box', 'stripes', 'dus"),
        ({"pattern": None}, "corruption.pattern: must be 'pixels', 'box', 'centre-box', 'stripes', 'dus"),
        ({"per_channel": "yes"}, "corruption.per_channel: must be true or false, not 'yes'"),
        ({"pattern": "box", "p": 0.95}, "corruption.p 0.95 hides every pixel of images [3, 8, 8]; lower it"),
        ({"pattern": "centre-box", "p": [0.1, 0.99]}, "corruption.p 0.99 hides every pixel of images [3, 8, 8]"),
        ({"pattern": "box", "p": 0.1, "delta": 0.001}, "corruption.delta 0.001 of pattern box takes less than a pixel"),
        ({"pattern": "box", "p": 0.1, "delta": 0.97}, "takes every pixel of images [3, 8, 8] away; choose one between"),
        ({"pattern": "files"}, "corruption.masks: is missing: pattern files needs a folder, archive or arr"),
        ({"masks": "folder"}, "corruption.masks: needs pattern: files; remove masks, or state that patt"),
        ({"pattern": "files", "masks": 3}, "corruption.masks: must be a folder, archive or array file, not 3"),
        ({"pattern": "files", "masks": "nowhere/masks"}, "nowhere/masks: no such file or folder"),
        ({"pattern": "files", "masks": MASKS}, "have shape [1, 9, 11], but the measurements have [3, 8, 8]"),
        ({"pattern": "files", "masks": KERNEL}, "corruption.masks: must be booleans of shape [k, C, H, W], not Embed"),
        ({"pattern": "files", "masks": Embedded(np.ones((0, 1, 8, 8), bool))}, "must be booleans of shape"),
        ({"pattern": "files", "masks": Embedded(np.zeros((2, 1, 8, 8), bool))}, "mask 0 hides everything"),
    ],
)  # fmt: skip
def test_masks(keys: dict[str, Any], message: str) -> None:
    refused({"kind": "mask", **keys}, message)


def test_the_largest_box_is_refused_where_it_hides_all_and_not_before() -> None:
    """On images that are not square, one side may be covered wholly while the other is not."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 4, 20)
    assert (~Mask(pattern="box", p=0.9).draw(3, shape, generator).mask).flatten(1).sum(1).tolist() == [76, 76, 76]
    refused({"kind": "mask", "pattern": "box", "p": 0.96}, "hides every pixel of images [1, 4, 20]", shape)


def test_colour_masks_for_grey_images() -> None:
    shown = "have shape [3, 9, 11], but the measurements have [1, 9, 11]; give masks of 9 x 11 pixels with one channel"
    refused({**FILES, "masks": COLOUR_MASKS}, shown, (1, 9, 11))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": 8}, "corruption.size: a kernel needs odd sides, so that it has a middle pixel, not 8 x 8"),
        ({"size": 0}, "corruption.size: must be at least 1, not 0"),
        ({"size": 9}, "corruption.kernel: 9 x 9 pixels are more than the images' 8 x 8; use a smaller size"),
        ({"kernel": Embedded(np.ones((9, 3)))}, "corruption.kernel: 9 x 3 pixels are more than the images' 8 x 8; use"),
        ({"size": 5, "std": 0}, "corruption.std: must be at least 0.001, not 0"),
        ({"size": 5, "std": "2 px"}, "corruption.std: must be a number, not '2 px'"),
        ({"size": 5, "boundary": "mirror"}, "corruption.boundary: must be 'reflect', 'circular' or 'zero', not 'mirro"),
        ({"size": 5, "angle": 30}, "corruption.angle: needs kernel: motion; remove it"),
        ({"size": 5, "length": 3}, "corruption.length: needs kernel: motion; remove it"),
        ({"kernel": "motion", "size": 5, "length": 5}, "corruption.length: must be at most 4, the size minus 1, not 5"),
        ({"kernel": "motion", "size": 5, "angle": "up"}, "corruption.angle: must be a number, not 'up'"),
        ({"normalise": 1}, "corruption.normalise: must be true or false, not 1"),
        ({"kernel": "gausian"}, "corruption.kernel: gausian: no such file; state gaussian, motion, or a fil"),
        ({"kernel": 3}, "corruption.kernel: must be gaussian, motion, or a file with the kernel, no"),
        ({"kernel": Embedded(np.ones(3))}, "a kernel must be one grey image [height, width], not [3]"),
        ({"kernel": Embedded(np.ones((2, 3)))}, "corruption.kernel: a kernel needs odd sides"),
        ({"kernel": Embedded(np.zeros((3, 3)))}, "corruption.kernel: a kernel must have finite values"),
        ({"kernel": Embedded(np.full((3, 3), np.nan))}, "must have finite values with a positive sum, not nan"),
        ({"kernel": {"shape": [3, 3]}}, "corruption.kernel: is not an array in plain data (no 'dtype')"),
    ],
)  # fmt: skip
def test_blur(keys: dict[str, Any], message: str) -> None:
    refused({"kind": "blur", **keys}, message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"factor": 3}, "corruption.factor 3 does not divide images of 8 x 8"),
        ({"factor": 16}, "corruption.factor 16 does not divide images of 8 x 8"),
        ({"factor": 1}, "corruption.factor: must be at least 2, not 1"),
        ({"factor": 2.0}, "corruption.factor: must be a whole number, not 2.0"),
        ({"factor": True}, "corruption.factor: must be a whole number, not True"),
        ({"method": "cubic"}, "corruption.method: must be 'average' or 'bicubic', not 'cubic'"),
        ({"grid": "low"}, "corruption.grid: must be 'auto', 'image' or 'measurement', not 'low'"),
        (
            {"grid": "image", "sigma_n": 0.1},
            "corruption.grid: image needs measurements without noise: noise is n",
        ),
        (
            {"grid": "image", "sigma_n": [0, 0.1]},
            "corruption.grid: image needs measurements without noise: noise is n",
        ),
    ],
)
def test_downsampling(keys: dict[str, Any], message: str) -> None:
    refused({"kind": "downsampling", **keys}, message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"gain": 0}, "corruption.gain: must be at least 1e-09, not 0"),
        ({"gain": -1}, "corruption.gain: must be at least 1e-09, not -1"),
        ({"gain": "auto"}, "corruption.gain: must be a number, not 'auto'"),
        ({"read_noise": -0.1}, "corruption.read_noise: must be at least 0, not -0.1"),
        ({"zero": 2}, "corruption.zero, the value of no light, must lie below white, which is 1, not 2"),
        ({"sigma_n": 0.1}, "corruption.sigma_n: kind poisson derives sigma_n from gain and read_noise;"),
        ({"sigma_n": [0.1, 0.2]}, "corruption.sigma_n: kind poisson derives sigma_n from gain and read_noise;"),
    ],
)
def test_poisson(keys: dict[str, Any], message: str) -> None:
    refused({"kind": "poisson", **keys}, message)


def test_counts_below_no_light() -> None:
    below = torch.tensor([[-1.2, 0.5]])
    with pytest.raises(UserError, match=r"below the value of no light \(-1.2 < -1\); state corruption.zero"):
        Poisson(gain=0.1).stabilise(below)
    assert Poisson(gain=0.1, read_noise=0.1).stabilise(below).isfinite().all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, f"{CHAIN}: is missing"),
        ({"operators": []}, f"{CHAIN}: is empty: list the parts, e.g. [blur, mask]"),
        ({"operators": None}, f"{CHAIN}: must be a list, not None"),
        ({"operators": "mask"}, f"{CHAIN}: must be a list, not 'mask'"),
        ({"operators": {"kind": "mask"}}, f"{CHAIN}: must be a list, not {{'kind': 'mask'}}"),
        ({"operators": [3]}, f"{CHAIN}[0]: must be a kind, or keys and values that include one, {{kin"),
        ({"operators": ["mask", "blur"]}, f"{CHAIN}: blur after mask is not supported"),
        ({"operators": ["mask", "poisson"]}, f"{CHAIN}: poisson after mask is not supported"),
        ({"operators": ["poisson", "blur"]}, f"{CHAIN}: blur after poisson is not supported"),
        ({"operators": ["poisson", "poisson"]}, f"{CHAIN}: poisson after poisson is not supported"),
        ({"operators": ["blur", "noise"]}, f"{CHAIN}[1]: kind noise cannot be part of a chain; state the n"),
        ({"operators": [{"kind": "compose", "operators": ["mask"]}]}, f"{CHAIN}[0]: kind compose cannot be part"),
        ({"operators": ["blur", "smudge"]}, f"{CHAIN}[1]: 'smudge' is not a known kind: use one of blur, compo"),
        ({"operators": [{"std": 2}]}, f"{CHAIN}[0].kind: is missing: use one of blur, compose, custom"),
        ({"operators": [{"kind": "blur", "sdt": 2}]}, f"unknown key {CHAIN}[0].sdt: did you mean {CHAIN}[0].std?"),
        ({"operators": ["blur", {"kind": "mask", "p": 2}]}, f"{CHAIN}[1].p: must be below 1, not 2"),
        ({"operators": [{"kind": "blur", "kernel": "my/corruption.png"}]}, f"{CHAIN}[0].kernel: my/corruption.png: no"),
        ({"operators": [{"kind": "mask", "sigma_n": 0.1}]}, f"{CHAIN}[0]: sigma_n, weights and clean_fraction belong"),
        ({"operators": [{"kind": "mask", "weights": [1]}]}, f"{CHAIN}[0]: sigma_n, weights and clean_fraction belong"),
        ({"operators": [{"kind": "mask", "clean_fraction": 0.1}]}, f"{CHAIN}[0]: sigma_n, weights and clean_fraction"),
        ({"operators": ["mask"], "sigma_n": None}, "corruption.sigma_n: must be a number, not None"),
        ({"operators": ["poisson"], "sigma_n": 0.1}, "corruption.sigma_n: a part of kind poisson derives it from gain"),
        ({"operators": ["downsampling"], "clean_fraction": 0.1}, "corruption.clean_fraction: a part of kind downsampl"),
        ({"operators": ["poisson", "mask"], "clean_fraction": 0.1}, "corruption.clean_fraction: a part of kind poisso"),
        ({"operators": [{"kind": "downsampling", "grid": "image"}], "sigma_n": 0.1}, f"{CHAIN}[0].grid: image: only"),
        ({"operators": [{"kind": "downsampling", "grid": "image"}, "mask"]}, f"{CHAIN}[0].grid: image: only the last"),
        ({"operators": ["downsampling", {"kind": "downsampling", "factor": 3}]}, f"{CHAIN}[1].factor 3 does not divid"),
        ({"operators": ["downsampling", {"kind": "blur", "size": 5}]}, f"{CHAIN}[1].kernel: 5 x 5 pixels are more tha"),
    ],
)  # fmt: skip
def test_chains(keys: dict[str, Any], message: str) -> None:
    refused({"kind": "compose", **keys}, message)


def test_a_chain_takes_laws_and_names_alike() -> None:
    assert Compose(operators=(Blur(), Mask())) == Compose(operators=("blur", {"kind": "mask"}))
    assert Compose(operators=["blur", "mask"]) == Compose(operators=(Blur(), Mask()))  # type: ignore[arg-type]
