"""Every corruption of corruption in a phrase that a person would say, and no array spelled out in any of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from restill.corruption import (
    AdditiveNoise,
    Blur,
    Compose,
    Corruption,
    Downsampling,
    Embedded,
    Function,
    Mask,
    Poisson,
)
from restill.report import corruption_in_words, judge, shortened
from restill.report.words import details, teacher_draws, went_in
from test_report_table import ALL

RNG = np.random.default_rng(0)
KERNEL = Embedded(RNG.random((9, 7)))
MASKS = Embedded(RNG.random((512, 1, 8, 8)) < 0.25)
BLUR = {"kind": "blur", "size": 9, "std": 2}
PHRASES: list[tuple[Corruption, str]] = [
    (AdditiveNoise(sigma_n=0.4), "noise 0.4"),
    (AdditiveNoise(sigma_n=0.0), "no noise"),
    (AdditiveNoise(sigma_n=0.4, clean_fraction=0.1), "noise 0.4 (10% of the images as they are)"),
    (Mask(p=0.6, sigma_n=0.2), "60% of the pixels missing and noise 0.2"),
    (Mask(p=0.6), "60% of the pixels missing and no noise"),
    (Mask(p=(0.3, 0.8), per_channel=True), "30% or 80% of the pixels missing (each channel by itself) and no noise"),
    (Mask(p=0.25, pattern="box"), "a box of 25% of the pixels missing and no noise"),
    (Mask(p=0.25, pattern="centre-box"), "a box of 25% of the pixels in the middle of each image missing and no noise"),
    (Mask(p=0.5, pattern="stripes", size=3), "50% of the pixels missing (stripes 3 wide) and no noise"),
    (Mask(p=0.5, pattern="dust", size=4), "50% of the pixels missing (spots of 4) and no noise"),
    (
        Mask(pattern="files", masks=MASKS, sigma_n=0.1),
        f"{100 * (1 - MASKS.array.mean()):.3g}% of the pixels missing (512 masks from files) and noise 0.1",
    ),
    (Blur(), "Gaussian blur (9 pixels, std 2) and no noise"),
    (Blur(kernel="motion", size=5), "motion blur (4 pixels, any direction) and no noise"),
    (Blur(kernel="motion", length=3, angle=30), "motion blur (3 pixels, 30 degrees) and no noise"),
    (Blur(kernel=KERNEL, sigma_n=0.1), "blur by a measured kernel of 9 x 7 pixels and noise 0.1"),
    (Downsampling(sigma_n=0.2), "averages of 2 x 2 pixels and noise 0.2"),
    (Downsampling(factor=4, method="bicubic"), "1/4 of the resolution (bicubic) and no noise"),
    (Poisson(gain=0.02), "photon noise (100 photons at white)"),
    (Poisson(gain=0.02, read_noise=0.06), "photon noise (100 photons at white, read noise of 3)"),
    (Function(name="ct", sigma_n=0.05), "the operator 'ct' and noise 0.05"),
    (
        Compose(operators=(BLUR, {"kind": "mask", "p": 0.5}), sigma_n=0.1),
        "Gaussian blur (9 pixels, std 2), then 50% of the pixels missing, and noise 0.1",
    ),
    (
        Compose(operators=("downsampling", {"kind": "poisson", "gain": 0.1})),
        "averages of 2 x 2 pixels, then photon noise (20 photons at white)",
    ),
]


@pytest.mark.parametrize(("corruption", "words"), PHRASES, ids=lambda value: value if isinstance(value, str) else "")
def test_corruptions_in_words(corruption: Corruption, words: str) -> None:
    assert corruption_in_words(corruption.describe()) == words
    assert corruption_in_words(json.loads(json.dumps(corruption.describe()))) == words


@pytest.mark.parametrize(
    "corruption", [corruption for corruption, _ in PHRASES], ids=lambda corruption: corruption.kind
)
def test_arrays_are_told_by_their_shape(corruption: Corruption) -> None:
    told = f"{details(corruption)} {shortened(corruption.describe())}"
    assert len(told) < 700 and "zlib" not in told
    embedded = [value for value in vars(corruption).values() if isinstance(value, Embedded)]
    for value in embedded:
        assert f"an array of {' x '.join(map(str, value.array.shape))}" in told


def test_every_part_of_a_chain_is_listed() -> None:
    chain = Compose(operators=(Blur(kernel=KERNEL), {"kind": "mask", "p": 0.5}), sigma_n=0.1)
    assert details(chain) == [("part 1", "blur: kernel an array of 9 x 7"), ("part 2", "mask: p 0.5")]


def test_kinds_that_restill_does_not_know_are_told_by_their_keys() -> None:
    unknown = {"kind": "haze", "depth": 2, "sigma_n": 0.1, "map": KERNEL.describe()}
    assert corruption_in_words(unknown) == "haze (depth 2, map an array of 9 x 7) and noise 0.1"


@pytest.mark.parametrize(
    ("corruption", "clean"),
    [
        (AdditiveNoise(sigma_n=0.2), False),
        (AdditiveNoise(sigma_n=(0.0, 0.2)), True),
        (Mask(p=0.5, clean_fraction=0.1), True),
        (Mask(p=0.5), False),
        (Blur(), False),
    ],
)
def test_clean_images_among_the_measurements_are_not_denied(corruption: Corruption, clean: bool) -> None:
    assert went_in(1797, corruption).endswith("no other clean image" if clean else "no clean image")


@pytest.mark.parametrize(
    ("corruption", "words"),
    [
        (AdditiveNoise(sigma_n=0.2), ""),
        (Mask(), ""),
        (Poisson(), ""),
        (Blur(), "The teacher draws blurred images, as it was trained to; only the student draws clean images."),
        (Downsampling(), "lower resolution (shown enlarged), as it was"),
        (Function(name="ct"), "draws measurements"),
        (Compose(operators=("blur", "mask")), "draws blurred images, as"),
        (Compose(operators=("blur", "downsampling")), "draws blurred images, and images of the lower resolution"),
    ],
)
def test_what_a_teacher_draws_is_said_beside_the_numbers(corruption: Corruption, words: str) -> None:
    sentence = teacher_draws(corruption)
    assert words in sentence and bool(words) == bool(sentence)
    notes = judge(ALL, 10, corruption).notes
    assert (sentence in notes) == bool(words)


def test_without_noise_the_full_teacher_is_what_the_student_is_timed_against() -> None:
    untruncated = [result for result in ALL if result.subject != "teacher-truncated"]
    verdict = judge(untruncated, 10, Blur())
    assert "41.9 times as many as teacher-full" in verdict.headline  # 10.9 s / 0.26 s
    assert "beats teacher-full, the only teacher measured" in verdict.answer
    assert "teacher-truncated" not in f"{verdict.headline} {verdict.where_not}"
