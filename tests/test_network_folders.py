"""A network folder from somebody else: sizes are compared before memory is taken, and each mistake is one line."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from restill.checkpoint import load_network, planned_network
from restill.core.errors import UserError
from restill.runs import prepare_store, pretrain, working_on
from tiny import tiny_recipe

SECTIONS = {
    "network": {"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []},
    "teacher": {"images": 16, "batch_size": 16},
    "corruption": {"kind": "noise", "sigma_n": 0.4},
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "run"
    with working_on(path, tiny_recipe(**SECTIONS)) as run:
        prepare_store(run)
        pretrain(run)
    return path / "teacher"


def argument(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["kwargs"].update(values)


def entry(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.update(values)


SPOILERS = {
    "blocks without end": argument(num_blocks=100_000),
    "wider than memory": argument(model_channels=10**9),
    "wider than a number": argument(model_channels=10**30),
    "a number as text": argument(model_channels="16"),
    "a list of lists": argument(channel_mult=[[1]]),
    "another width": argument(model_channels=32),
    "another depth": argument(num_blocks=2),
    "classes of the network": argument(label_dim=10**6),
    "classes that are none": entry(num_classes=-1),
    "classes that it lacks": entry(num_classes=3),
    "images without end": entry(shape=[1, 10**6, 10**6]),
    "images of two sides": entry(shape=[8, 8]),
    "images of another size": entry(shape=[1, 8, 10**6]),
    "images of nothing": entry(shape=[1, 0, 8]),
    "more channels": entry(shape=[3, 8, 8]),
    "no deviation": entry(sigma_data=0.0),
    "not a number": entry(sigma_data="0.5"),
    "another role": entry(role="judge"),
    "another class": entry(cls="os.system"),
    "no scale": entry(scale=0.0),
    "arguments as a list": entry(kwargs=[]),
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_a_configuration_that_does_not_fit(
    spoil: Callable[[dict[str, Any]], None], network: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "network"
    shutil.copytree(network, folder)
    config = json.loads((folder / "config.json").read_text())
    spoil(config)
    (folder / "config.json").write_text(json.dumps(config))
    start = time.process_time()
    for read in (planned_network, load_network):
        with pytest.raises(UserError) as caught:
            read(folder)
        text = str(caught.value)
        assert str(folder) in text and "\n" not in text and len(text) < 300 + len(str(folder))
    assert time.process_time() - start < 4  # of both; measured 0.1, and minutes before


def test_the_plan_takes_no_memory_and_is_the_network(network: Path) -> None:
    config, planned = planned_network(network)
    loaded, _ = load_network(network)
    assert all(value.is_meta for value in planned.state_dict().values())
    assert {k: v.shape for k, v in planned.state_dict().items()} == {k: v.shape for k, v in loaded.state_dict().items()}
    assert config.role == "teacher"
