"""What is wrong with a plug-in is said in one line that names it, before or while it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from restill.cli import app as cli
from restill.diffusion.networks.architecture import Architecture
from restill.metrics.features import NamedFeatures
from restill.objectives import DistillationLoss
from tiny import settings

LOSS = """
from restill.objectives import DistillationLoss

class Mine(DistillationLoss, kind="{kind}"):
    def __call__(self, u, x_t, a, b, sigma):
        return {body}
"""
FEATURES = """
from restill.metrics.features import NamedFeatures

class Means(NamedFeatures, kind="unfinished-means"):
    name = "means"
"""
NETWORK = """
from restill.diffusion.networks import CustomNetwork

class Three(CustomNetwork, kind="three"):
    def build(self, given):
        return 3
"""


@pytest.fixture
def failing(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a tiny recipe with a plug-in; it must end with exit code 2. Returns the last line."""
    for family in (DistillationLoss, NamedFeatures, Architecture):
        monkeypatch.setattr(family, "_members", dict(family._members))

    def run(source: str, *more: str) -> str:
        (tmp_path / "mine.py").write_text(source)
        words = ["run", "digits-noise", "--out", str(tmp_path / "run"), "--plugin", str(tmp_path / "mine.py")]
        capsys.readouterr()
        code = cli._run_app([*words, *settings(*more)])
        line = capsys.readouterr().err.splitlines()[-1]
        assert code == 2, line
        return line

    return run


@pytest.mark.parametrize("kind", ["sid", "dmd"])
def test_a_kind_of_restills_own_cannot_be_taken(failing: Callable[..., str], kind: str) -> None:
    assert f"loss {kind!r} is restill's own; give Mine another kind" in failing(LOSS.format(kind=kind, body="0"))
    assert DistillationLoss._members[kind].__module__ == "restill.objectives.distillation_losses"


@pytest.mark.parametrize(
    "body, message",
    [
        ("u.mean()", "student.loss: kind 'wrong' must return one value for each of the 16 images, not the shape []"),
        ("u + 1 / 0", "mine.py: raises ZeroDivisionError: division by zero"),
    ],
)
def test_a_loss_that_returns_or_raises_something_else(failing: Callable[..., str], body: str, message: str) -> None:
    assert message in failing(LOSS.format(kind="wrong", body=body), "student.loss=wrong")


def test_features_that_lack_a_method(failing: Callable[..., str]) -> None:
    line = failing(FEATURES, "evaluation.features=[unfinished-means]")
    assert "features 'unfinished-means': the class Means must define" in line and "open" in line


def test_a_network_that_is_none(failing: Callable[..., str]) -> None:
    line = failing(NETWORK, "network={architecture: three}")
    assert "network.architecture 'three': build must return a torch module, not 3" in line


@pytest.mark.parametrize(
    "setting, message",
    [
        ("evaluation.features=[foo]", "features 'foo' are not known"),
        ("data.reference=nosuch", "data.reference: nosuch does not exist"),
        ("baselines.l1_wavelet=true", "baselines.l1_wavelet: needs undersampled k-space"),
        ("evaluation.seeds=[1,1]", "evaluation.seeds: must be different, not [1, 1]"),
        ("evaluation.seeds=[-1]", "evaluation.seeds[0]: must be at least 0, not -1"),
    ],
)
def test_what_the_end_of_a_run_needs_is_checked_before_training(
    failing: Callable[..., str], tmp_path: Path, setting: str, message: str
) -> None:
    assert message in failing(LOSS.format(kind="unused", body="0"), setting)
    assert not (tmp_path / "run" / "teacher").exists()
