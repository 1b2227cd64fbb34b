"""Corruptions as plain data: those of version 0.1 are read, keys are explained, a user's own needs few lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from operators_list import INSTANCES
from restill.acquisition import corrupt_images
from restill.core.errors import UserError
from restill.core.kinds import kinds, of_kind
from restill.core.settings import keys_of
from restill.corruption import (
    Compose,
    Corruption,
    Downsampling,
    Loss,
    Mask,
    Poisson,
    corruption_from,
    load_operator,
    photons_of,
)
from restill.corruption.corruption import reduction
from restill.io import array_source
from restill.store import open_store

# as version 0.1 wrote them into manifests and config.json
OLD: list[dict[str, Any]] = [
    {"kind": "noise", "sigma_n": [0.0, 0.2], "weights": [1, 3], "clean_fraction": 0.1},
    {"kind": "noise", "sigma_n": 0.0},
    {"kind": "mask", "sigma_n": 0.1, "p": [0.3, 0.8], "per_channel": True},
    {
        "kind": "mask",
        "sigma_n": 0.0,
        "pattern": "files",
        "masks": {"dtype": "bool", "shape": [2, 1, 2, 2], "zlib": "eNrbBgAAtwC3"},
    },
    {"kind": "blur", "sigma_n": 0.0, "kernel": "motion", "size": 5, "length": 2, "angle": 30, "boundary": "zero"},
    {
        "kind": "blur",
        "sigma_n": 0.3,
        "kernel": {
            "dtype": "float32",
            "shape": [3, 3],
            "zlib": "eNpL5N5mk8htZtvZ0WGbyL3N1rLvMZDNYffVU94OKG539oyPHQDvFQ1P",
        },
    },
    {"kind": "downsampling", "sigma_n": 0.1, "factor": 3, "method": "bicubic"},
    {"kind": "poisson", "gain": 0.05, "read_noise": 0.1, "zero": -1.2},
    {"kind": "function", "sigma_n": 0.05, "name": "ct"},
    {
        "kind": "mri",
        "sigma_n": 0.01,
        "acceleration": [2, 4],
        "acs": 2,
        "coils": 2,
        "maps": {"dtype": "float32", "shape": [1, 2, 2, 2, 2], "zlib": "eNpjYGCwZ6AAAwB6UAPx"},
    },
    {
        "kind": "mri",
        "sigma_n": 0.0,
        "acs": 1,
        "pattern": "files",
        "coils": 1,
        "masks": {"dtype": "bool", "shape": [1, 1, 1, 4], "zlib": "eNq7AAAA0QDR"},
    },
    {
        "kind": "compose",
        "sigma_n": 0.1,
        "operators": [{"kind": "blur"}, {"kind": "downsampling", "grid": "measurement"}, {"kind": "mask", "p": 0.4}],
    },
    {"kind": "compose", "sigma_n": 0.0, "operators": [{"kind": "downsampling", "grid": "image"}]},
    {
        "kind": "compose",
        "operators": [
            {"kind": "downsampling", "grid": "measurement"},
            {"kind": "poisson", "gain": 0.1},
            {"kind": "mask"},
        ],
    },
]
OWN = """
from dataclasses import dataclass
import torch
from torch import Tensor
from restill.corruption import CompleteOperator, CustomCorruption, WithoutGaps

@dataclass(frozen=True)
class DimmedOperator(CompleteOperator):
    share: Tensor
    def apply(self, x):
        return self.share.to(x)[:, None, None, None] * x
    adjoint = apply

class Dimmed(CustomCorruption, WithoutGaps, kind="test-dimmed"):
    least: float = 0.5
    def draw(self, n, shape, generator):
        share = self.least + (1 - self.least) * torch.rand(n, generator=generator, device=generator.device)
        return DimmedOperator(self.draw_sigma_n(n, generator), share)
"""


@pytest.mark.parametrize("description", OLD, ids=lambda description: str(description["kind"]))
def test_descriptions_of_version_0_1_are_read_and_written_alike(description: dict[str, Any]) -> None:
    corruption = corruption_from(description)
    assert corruption.describe() == description
    assert json.loads(json.dumps(corruption.describe())) == description
    assert yaml.safe_load(yaml.safe_dump(corruption.describe())) == description
    for key, value in description.items():
        if key not in ("kind", "operators", "kernel", "maps", "masks"):
            assert getattr(corruption, key) == (tuple(value) if isinstance(value, list) else value)


def test_every_kind_is_among_them() -> None:
    own = {kind for kind in kinds(Corruption) if not kind.startswith(("test-", "custom-"))}
    assert {description["kind"] for description in OLD} == own


@pytest.mark.parametrize("name", INSTANCES)
def test_plain_data_come_back_whole_and_short(name: str) -> None:
    corruption = INSTANCES[name].law
    for data in (corruption.describe(), json.loads(json.dumps(corruption.model_dump(mode="json")))):
        again = corruption_from(data)
        assert again == corruption and hash(again) == hash(corruption)
        assert again.describe() == corruption.describe()
    assert corruption.changed() == corruption


@pytest.mark.parametrize("kind", [kind for kind in kinds(Corruption) if not kind.startswith(("test-", "custom-"))])
def test_every_key_says_what_it_does(kind: str) -> None:
    keys = list(keys_of(of_kind(Corruption, kind)))
    assert keys and all(len(key.does) > 5 and "\n" not in key.does for key in keys)


def test_what_is_lost_is_known_of_parts_and_of_the_whole() -> None:
    losses = {name: {loss for loss in Loss if instance.law.loses(loss)} for name, instance in INSTANCES.items()}
    assert losses["noise"] == set() and losses["mask-box"] == {Loss.PIXELS}
    assert losses["blur-poisson-mask"] == {Loss.SHARPNESS, Loss.PHOTONS, Loss.PIXELS}
    assert losses["downsampling"] == {Loss.RESOLUTION} and losses["function"] == {Loss.OWN_FUNCTION}
    assert {loss for found in losses.values() for loss in found} == set(Loss)
    for name, instance in INSTANCES.items():
        photons = photons_of(instance.law)
        assert isinstance(photons, Poisson) == (Loss.PHOTONS in losses[name])
        assert bool(instance.law.functions) == (Loss.OWN_FUNCTION in losses[name])
        assert len(instance.law.parts) == len(instance.law.describe().get("operators", [None]))


def test_a_template_is_drawn_once_and_parameters_must_be_its_own() -> None:
    corruption = corruption_from({"kind": "mask", "p": 0.5})
    assert corruption.template((1, 8, 8)) is corruption_from({"kind": "mask", "p": 0.5}).template((1, 8, 8))
    assert corruption.template((1, 8, 8)) is not corruption.changed(p=0.25).template((1, 8, 8))
    with pytest.raises(UserError, match=r"corruption\.kind mask: its operators have the parameters mask, sigma_n, not"):
        corruption.rebuild({"sigma_n": torch.zeros(2)}, (1, 8, 8))


def test_a_corruption_from_outside_the_package(tmp_path: Path) -> None:
    """Sixteen lines of code: drawn, written to a store, read again from its own parameters, and told in words."""
    (tmp_path / "dimmed.py").write_text(OWN)
    load_operator(tmp_path / "dimmed.py")
    corruption = corruption_from({"kind": "test-dimmed", "least": 0.25})
    assert corruption.in_words() == "test-dimmed (least 0.25) and no noise"
    images = np.random.default_rng(0).integers(1, 256, (30, 4, 6), dtype=np.uint8)
    corrupt_images(array_source(images), corruption, tmp_path / "y", None, seed=0)
    store = open_store(tmp_path / "y")
    assert store.corruption == corruption and store.corruption.shapes((1, 4, 6)).condition == 0
    batch = store.batch(torch.arange(30))
    share = batch.operator.parameters()["share"]
    assert ((share >= 0.25) & (share <= 1)).all() and share.std() > 0.1
    x = torch.from_numpy(images)[:, None] / 127.5 - 1
    torch.testing.assert_close(batch.y, share[:, None, None, None] * x, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=r"unknown key corruption\.last: did you mean corruption\.least\?"):
        corruption_from({"kind": "test-dimmed", "last": 0.1})


def test_sides_are_shorter_by_the_product_of_all_factors() -> None:
    chain = Compose(operators=({"kind": "downsampling", "factor": 2}, {"kind": "downsampling", "factor": 3}, "mask"))
    assert [reduction(law) for law in (chain, Downsampling(factor=4), Mask())] == [6, 4, 1]
    assert chain.shapes((1, 12, 18)).observation == (1, 2, 3)
