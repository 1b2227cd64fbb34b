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
        ("noise", "corruption must be keys and values with a kind, e.g. {kind: noise}, not 'noise'"),
        (None, "corruption must be keys and values with a kind"),
        ({}, "corruption.kind None is not known: use one of"),
        ({"kind": ["noise"]}, "corruption.kind ['noise'] is not known"),
        ({"kind": "masks"}, "use one of"),
        ({"kind": "mask", "rate": 0.5}, "corruption.rate is not a key of corruption 'mask': did you mean"),
        ({"kind": "noise", 1: 2}, "corruption.1 is not a key of corruption 'noise'"),
        ({"kind": "noise", "sigma_n": "0.2"}, "corruption.sigma_n must be a number or a list of numbers, not '0.2'"),
        ({"kind": "noise", "sigma_n": None}, "corruption.sigma_n must be a number or a list of numbers, not None"),
        ({"kind": "noise", "sigma_n": True}, "corruption.sigma_n must be a number or a list of numbers, not True"),
        ({"kind": "noise", "sigma_n": []}, "corruption.sigma_n is an empty list"),
        ({"kind": "noise", "sigma_n": [0.1, -1]}, "corruption.sigma_n and weights must be finite and at least 0"),
        ({"kind": "noise", "sigma_n": float("inf")}, "must be finite and at least 0, not [inf]"),
        ({"kind": "noise", "weights": 1}, "corruption.weights must be a number or a list of numbers, not 1"),
        ({"kind": "noise", "weights": "ab"}, "corruption.weights must be a number or a list of numbers, not 'ab'"),
        ({"kind": "noise", "weights": [1, 2]}, "corruption.weights must hold one weight for each of the 1 sigma_n"),
        ({"kind": "noise", "sigma_n": [0, 1], "weights": [0, 0]}, "each of the 2 sigma_n, not all 0; it is [0, 0]"),
        ({"kind": "noise", "clean_fraction": 1.5}, "corruption.clean_fraction must be a number in [0, 1], not 1.5"),
        ({"kind": "noise", "clean_fraction": "half"}, "corruption.clean_fraction must be a number in [0, 1]"),
        ({"kind": "poisson", "clean_fraction": 0.1}, "corruption.clean_fraction: no clean image can be among"),
        ({"kind": "downsampling", "clean_fraction": 0.1}, "no clean image can be among measurements of kind 'downsam"),
        ({"kind": "function", "name": "f", "clean_fraction": 0.1}, "measurements of kind 'function'"),
        ({"kind": "custom-mask", "clean_fraction": 0.1}, "its class does not draw any"),
    ],
)
def test_any_corruption(description: Any, message: str) -> None:
    refused(description, message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"p": 1}, "corruption.p must be a number in [0, 1), not 1"),
        ({"p": -0.1}, "corruption.p must be a number in [0, 1), not -0.1"),
        ({"p": "0.5"}, "corruption.p must be a number in [0, 1), not '0.5'"),
        ({"p": None}, "corruption.p must be a number in [0, 1), not None"),
        ({"p": float("nan")}, "corruption.p must be a number in [0, 1), not nan"),
        ({"p": []}, "corruption.p is an empty list; state the share of missing pixels"),
        ({"p": [0.5, 60]}, "corruption.p must be a number in [0, 1), not 60"),
        ({"delta": 0}, "corruption.delta must lie above 0"),
        ({"delta": 1.0}, "corruption.delta must be a number in [0, 1), not 1.0"),
        ({"size": 0}, "corruption.size must be a whole number of pixels, at least 1, not 0"),
        ({"size": 2.5}, "corruption.size must be a whole number of pixels, at least 1, not 2.5"),
        ({"pattern": "lines"}, "corruption.pattern 'lines' is not known: use one of pixels, box, centre-box, stripes,"),
        ({"pattern": None}, "corruption.pattern None is not known"),
        ({"per_channel": "yes"}, "corruption.per_channel must be true or false, not 'yes'"),
        ({"pattern": "box", "p": 0.95}, "corruption.p 0.95 hides every pixel of images [3, 8, 8]; lower it"),
        ({"pattern": "centre-box", "p": [0.1, 0.99]}, "corruption.p 0.99 hides every pixel of images [3, 8, 8]"),
        ({"pattern": "box", "p": 0.1, "delta": 0.001}, "corruption.delta 0.001 of pattern box takes less than a pixel"),
        ({"pattern": "box", "p": 0.1, "delta": 0.97}, "takes every pixel of images [3, 8, 8] away; choose one between"),
        ({"pattern": "files"}, "corruption.masks (a folder, archive or array file) goes with corruption.pattern files"),
        ({"masks": "folder"}, "goes with corruption.pattern files"),
        ({"pattern": "files", "masks": 3}, "corruption.masks must be a folder, archive or array file, not 3"),
        ({"pattern": "files", "masks": "nowhere/masks"}, "nowhere/masks: no such file or folder"),
        ({"pattern": "files", "masks": MASKS}, "are of shape [1, 9, 11], what they mask of [3, 8, 8]"),
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
    shown = "are of shape [3, 9, 11], what they mask of [1, 9, 11]; make the masks of 9 x 11 pixels with one channel"
    refused({**FILES, "masks": COLOUR_MASKS}, shown, (1, 9, 11))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": 8}, "corruption.size: a kernel needs odd sides, which have a middle, not 8 x 8"),
        ({"size": 0}, "corruption.size must be a whole number of pixels, at least 1, not 0"),
        ({"size": 9}, "corruption.kernel: 9 x 9 pixels are more than the images' 8 x 8; use a smaller size"),
        ({"kernel": Embedded(np.ones((9, 3)))}, "corruption.kernel: 9 x 3 pixels are more than the images' 8 x 8; use"),
        ({"size": 5, "std": 0}, "corruption.std must be a number at least 0.001, not 0"),
        ({"size": 5, "std": "2 px"}, "corruption.std must be a number at least 0.001, not '2 px'"),
        ({"size": 5, "boundary": "mirror"}, "corruption.boundary 'mirror' is not known: use one of reflect, circ"),
        ({"size": 5, "angle": 30}, "corruption.angle goes with corruption.kernel motion; leave it out"),
        ({"size": 5, "length": 3}, "corruption.length goes with corruption.kernel motion"),
        ({"kernel": "motion", "size": 5, "length": 5}, "corruption.length must be a number in [0, 4], not 5"),
        ({"kernel": "motion", "size": 5, "angle": "up"}, "corruption.angle must be a number in [-360, 360], not 'up'"),
        ({"normalise": 1}, "corruption.normalise must be true or false, not 1"),
        ({"kernel": "gausian"}, "gausian: no such file; corruption.kernel is gaussian, motion, or a file"),
        ({"kernel": 3}, "corruption.kernel must be gaussian, motion, or a file with the kernel, not 3"),
        ({"kernel": Embedded(np.ones(3))}, "corruption.kernel: a kernel is one grey image [height, width], not [3]"),
        ({"kernel": Embedded(np.ones((2, 3)))}, "corruption.kernel: a kernel needs odd sides"),
        ({"kernel": Embedded(np.zeros((3, 3)))}, "corruption.kernel: a kernel has finite values with a positive sum"),
        ({"kernel": Embedded(np.full((3, 3), np.nan))}, "a kernel has finite values with a positive sum, not nan"),
        ({"kernel": {"shape": [3, 3]}}, "corruption.kernel: is no array in plain data (no 'dtype')"),
    ],
)  # fmt: skip
def test_blur(keys: dict[str, Any], message: str) -> None:
    refused({"kind": "blur", **keys}, message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"factor": 3}, "corruption.factor 3 does not divide images of 8 x 8"),
        ({"factor": 16}, "corruption.factor 16 does not divide images of 8 x 8"),
        ({"factor": 1}, "corruption.factor must be a whole number, at least 2, not 1"),
        ({"factor": 2.0}, "corruption.factor must be a whole number, at least 2, not 2.0"),
        ({"factor": True}, "corruption.factor must be a whole number, at least 2, not True"),
        ({"method": "cubic"}, "corruption.method 'cubic' is not known: use one of average, bicubic"),
        ({"grid": "low"}, "corruption.grid 'low' is not known: use one of auto, image, measurement"),
        ({"grid": "image", "sigma_n": 0.1}, "corruption.grid image is for measurements without noise"),
        ({"grid": "image", "sigma_n": [0, 0.1]}, "corruption.grid image is for measurements without noise"),
    ],
)
def test_downsampling(keys: dict[str, Any], message: str) -> None:
    refused({"kind": "downsampling", **keys}, message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"gain": 0}, "corruption.gain must be a number at least 1e-09, not 0"),
        ({"gain": -1}, "corruption.gain must be a number at least 1e-09, not -1"),
        ({"gain": "auto"}, "corruption.gain must be a number at least 1e-09, not 'auto'"),
        ({"read_noise": -0.1}, "corruption.read_noise must be a number at least 0, not -0.1"),
        ({"zero": 2}, "corruption.zero, the value of no light, must lie below white, which is 1, not 2"),
        ({"sigma_n": 0.1}, "corruption.sigma_n goes without saying for kind 'poisson'; state gain and read_noise"),
        ({"sigma_n": [0.1, 0.2]}, "corruption.sigma_n goes without saying for kind 'poisson'"),
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
        ({}, f"{CHAIN} is empty: list the parts, e.g. [blur, mask]"),
        ({"operators": []}, f"{CHAIN} is empty"),
        ({"operators": None}, f"{CHAIN} must be a list of the parts, e.g. [blur, mask], not None"),
        ({"operators": "mask"}, f"{CHAIN} must be a list of the parts, e.g. [blur, mask], not 'mask'"),
        ({"operators": {"kind": "mask"}}, f"{CHAIN} must be a list of the parts"),
        ({"operators": [3]}, f"{CHAIN}[0] must be a kind or a mapping with one, not 3"),
        ({"operators": ["mask", "blur"]}, f"{CHAIN}: blur after mask is not supported"),
        ({"operators": ["mask", "poisson"]}, f"{CHAIN}: poisson after mask is not supported"),
        ({"operators": ["poisson", "blur"]}, f"{CHAIN}: blur after poisson is not supported"),
        ({"operators": ["poisson", "poisson"]}, f"{CHAIN}: poisson after poisson is not supported"),
        ({"operators": ["blur", "noise"]}, f"{CHAIN}[1]: kind 'noise' is no operator; the noise of a chain is its sig"),
        ({"operators": [{"kind": "compose", "operators": ["mask"]}]}, f"{CHAIN}[0]: kind 'compose' is no operator"),
        ({"operators": ["blur", "smudge"]}, f"{CHAIN}[1].kind 'smudge' is not known: use one of"),
        ({"operators": [{"std": 2}]}, f"{CHAIN}[0].kind None is not known"),
        ({"operators": [{"kind": "blur", "sdt": 2}]}, f"{CHAIN}[0].sdt is not a key of corruption 'blur': did you mea"),
        ({"operators": ["blur", {"kind": "mask", "p": 2}]}, f"{CHAIN}[1].p must be a number in [0, 1), not 2"),
        ({"operators": [{"kind": "blur", "kernel": "my/corruption.png"}]}, f"{CHAIN}[0]: my/corruption.png: no such f"),
        ({"operators": [{"kind": "mask", "sigma_n": 0.1}]}, f"{CHAIN}[0]: sigma_n, weights and clean_fraction belong"),
        ({"operators": [{"kind": "mask", "weights": [1]}]}, f"{CHAIN}[0]: sigma_n, weights and clean_fraction belong"),
        ({"operators": [{"kind": "mask", "clean_fraction": 0.1}]}, f"{CHAIN}[0]: sigma_n, weights and clean_fraction"),
        ({"operators": ["mask"], "sigma_n": None}, "corruption.sigma_n must be a number or a list of numbers, not Non"),
        ({"operators": ["poisson"], "sigma_n": 0.1}, "corruption.sigma_n goes without saying where a part is of kind"),
        ({"operators": ["downsampling"], "clean_fraction": 0.1}, "a part of kind 'downsampling' leaves no image as it"),
        ({"operators": ["poisson", "mask"], "clean_fraction": 0.1}, "a part of kind 'poisson' leaves no image as it i"),
        ({"operators": [{"kind": "downsampling", "grid": "image"}], "sigma_n": 0.1}, f"{CHAIN}[0].grid image: only"),
        ({"operators": [{"kind": "downsampling", "grid": "image"}, "mask"]}, f"{CHAIN}[0].grid image: only the last o"),
        ({"operators": ["downsampling", {"kind": "downsampling", "factor": 3}]}, f"{CHAIN}[1].factor 3 does not divid"),
        ({"operators": ["downsampling", {"kind": "blur", "size": 5}]}, f"{CHAIN}[1].kernel: 5 x 5 pixels are more tha"),
    ],
)  # fmt: skip
def test_chains(keys: dict[str, Any], message: str) -> None:
    refused({"kind": "compose", **keys}, message)


def test_a_chain_takes_laws_and_names_alike() -> None:
    assert Compose(operators=(Blur(), Mask())) == Compose(operators=("blur", {"kind": "mask"}))
    assert Compose(operators=["blur", "mask"]) == Compose(operators=(Blur(), Mask()))  # type: ignore[arg-type]
