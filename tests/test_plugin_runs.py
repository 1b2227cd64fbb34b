"""A distillation loss and a network from outside the package: trained, sampled and reported by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from restill.cli import app as cli
from restill.core import plugins
from restill.core.errors import UserError
from restill.core.kinds import described
from restill.diffusion.networks import Architecture, CustomNetwork, Given
from restill.generator import load_denoiser
from restill.objectives import DistillationLoss
from restill.sampling import Sampler
from restill.sampling.settings import SamplingSettings
from test_plugins import install
from tiny import SETTINGS

HERE = Path(__file__).with_name("plugins")
LOSS, NETWORK, SAMPLER = HERE / "huber_loss.py", HERE / "plain_network.py", HERE / "euler_sampler.py"
RECIPE = """\
name: mine
plugins: [huber_loss, plain_network, euler_sampler]
data: {source: digits}
corruption: {kind: noise, sigma_n: 0.4}
network: {architecture: plain, width: 12}
student: {loss: {kind: huber, delta: 0.3}}
sampling: {sampler: euler, steps: 4}
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line: exit code and what is printed, each in one line."""

    def run(*words: object) -> tuple[int, str, str]:
        code = cli._run_app([*map(str, words)])
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), captured.err

    return run


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forget all plug-ins, as a new process would; none stays after the test."""

    def forgotten() -> None:
        monkeypatch.setattr(plugins, "_LOADED", {})
        for family, kind in (
            (DistillationLoss, "huber"),
            (Architecture, "plain"),
            (Sampler, "euler"),
            (SamplingSettings, "euler"),
        ):
            monkeypatch.setattr(family, "_members", {k: v for k, v in family._members.items() if k != kind})

    forgotten()
    return forgotten


def sets(*more: str) -> list[str]:
    mine = [setting for setting in SETTINGS if not setting.startswith(("network", "sampling.num"))]
    return [word for setting in (*mine, *more) for word in ("--set", setting)]


def test_they_are_trained_sampled_and_reported(tmp_path: Path, call: Call, forget: Callable[[], None]) -> None:
    recipe, out = tmp_path / "mine.yaml", tmp_path / "run"
    recipe.write_text(RECIPE)
    named = ["--plugin", LOSS, "--plugin", NETWORK, "--plugin", SAMPLER]
    code, _, error = call("run", recipe, "--out", out, *sets(), *named)
    assert code == 0, error
    config = json.loads((out / "student" / "config.json").read_text())
    assert config["cls"] == "plain" and config["kwargs"]["width"] == 12
    assert config["kwargs"]["given"]["channels"] == 1 and (out / "report.html").exists()
    assert {r["subject"] for r in json.loads((out / "metrics.json").read_text())["results"]} >= {"student"}
    results = json.loads((out / "metrics.json").read_text())["results"]
    assert "Euler(steps=4, stop_at=0.0)" in {r["sampler"] for r in results if r["subject"] == "teacher-full"}
    assert "--plugin huber_loss.py --plugin plain_network.py" in (out / "report.html").read_text()
    denoiser = load_denoiser(out / "teacher")
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert denoiser(x, 0.5).shape == x.shape and not torch.equal(denoiser(x, 0.5), denoiser(x, 2.0))
    code, printed, error = call("info", recipe, *sets(), *named)
    assert code == 0 and "plain, 1,645 parameters" in printed and "huber, 48 images" in printed

    forget()
    message = "plugins: 'huber_loss' is not loaded; name its file with --plugin huber_loss.py"
    for words in (["run", recipe, "--out", out, *sets()], ["sample", out, "--out", tmp_path / "images"], ["info", out]):
        code, printed, error = call(*words)
        assert code == 2 and message in error and error.count("\n") == 1 and printed == ""
    with pytest.raises(UserError, match=r"config\.json: .* 'plain' is unknown; .* with --plugin"):
        load_denoiser(out / "teacher")
    assert call("sample", out, "--out", tmp_path / "images", "-n", 4, *named)[0] == 0
    assert len(list((tmp_path / "images").glob("*.png"))) == 5


def test_a_recipe_that_does_not_say_what_it_needs(tmp_path: Path, call: Call, forget: Callable[[], None]) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(RECIPE.replace("plugins: [huber_loss, plain_network, euler_sampler]\n", ""))
    code, _, error = call("run", recipe, "--out", tmp_path / "run", "--plugin", LOSS)
    assert code == 2 and error.count("\n") == 1
    known = "adm, ddpmpp, ncsnpp, or name the file that defines it with --plugin"
    assert f"network.architecture: 'plain' is not a known kind: use one of {known}" in error
    recipe.write_text(RECIPE.replace("width: 12", "widht: 12"))
    code, _, error = call(
        "run", recipe, "--out", tmp_path / "run", "--plugin", LOSS, "--plugin", NETWORK, "--plugin", SAMPLER
    )
    assert code == 2 and "unknown key network.widht: did you mean network.width?" in error
    code, _, error = call("info", recipe, "--plugin", "unheard-of")
    assert code == 2 and "--plugin unheard-of: no such file or installed plug-in" in error
    recipe.write_text(RECIPE.replace("[huber_loss, plain_network, euler_sampler]", f"['{LOSS}']"))
    code, _, error = call("info", recipe)
    assert code == 2 and "must be a name, not a path; write 'huber_loss' and give the file with --plugin" in error


def test_those_of_installed_packages(
    tmp_path: Path, call: Call, forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "restill_test_losses", LOSS.read_text())
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\ndata: {source: digits}\nstudent: {loss: huber}\n")
    code, printed, error = call("info", recipe, *sets())
    assert code == 0 and "huber, 48 images" in printed, error
    assert plugins.from_files(["restill_test_losses"]) == []  # needs no option on the command line
    forget()
    monkeypatch.delitem(__import__("sys").modules, "restill_test_losses_package")
    code, printed, _ = call("info", recipe, *sets(), "--plugin", "restill_test_losses")
    assert code == 0 and "huber, 48 images" in printed


def test_a_network_from_a_plug_in_is_not_preconditioned_for_masks() -> None:
    class Mine(CustomNetwork, kind="test-own-preconditioning"):
        def build(self, given: Given) -> torch.nn.Module:
            return torch.nn.Identity()

    with pytest.raises(UserError, match=r"^network\.preconditioning: must be 'edm', not 'masked'$"):
        described(Architecture, {"architecture": Mine.kind, "preconditioning": "masked"})
