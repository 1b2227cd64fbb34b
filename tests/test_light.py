"""Who draws images, or asks for help, waits for nothing else: which modules are imported when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import restill
from restill.checkpoint import NetworkConfig, save_network
from restill.core.errors import UserError
from restill.core.kinds import Pluggable, kinds, member, of_kind

KWARGS = {"model_type": "SongUNet", "img_resolution": 8, "img_channels": 1, "model_channels": 8, "channel_mult": [1]}
KWARGS |= {"num_blocks": 1, "attn_resolutions": [], "sigma_data": 0.7}
DEPLOYED = {"checkpoint", "core", "corruption", "diffusion", "generator", "sampling"}
HEAVY = {"typer", "rich", "matplotlib", "jinja2", "PIL", "torchmetrics", "sklearn", "h5py", "pywt", "torchvision"}


def imported(code: str) -> set[str]:
    """Modules that a new process has imported after `code`."""
    code += "\nimport json, sys; json.dump(sorted(sys.modules), sys.stdout)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def ours(modules: set[str]) -> set[str]:
    """Modules of the package without their first word."""
    return {name.removeprefix("restill.") for name in modules if name.startswith("restill.")}


def corruptions(modules: set[str]) -> set[str]:
    """Kinds of corruption that were imported."""
    return ours(modules) & {law.removeprefix("restill.") for law in restill.Corruption._builtin.values()}


def test_the_deployers_import_is_light() -> None:
    found = imported("from restill.generator import load_generator")
    assert {name.split(".")[0] for name in ours(found)} == DEPLOYED
    assert not corruptions(found) and not HEAVY & {name.split(".")[0] for name in found}
    assert "torch" in found and 20 < len(ours(found)) < 60


def test_a_generator_imports_the_corruption_that_it_was_trained_under(tmp_path: Path) -> None:
    torch.manual_seed(0)
    noise = restill.AdditiveNoise(sigma_n=0.4)
    config = NetworkConfig(
        role="student",
        cls="EDMPrecond",
        kwargs=KWARGS,
        shape=(1, 8, 8),
        sigma_data=0.7,
        num_classes=0,
        corruption=noise.describe(),
        offset=8.0,
        scale=8.0,
        value_range=None,
        init_sigma=1.5,
    )
    save_network(tmp_path / "student", config.build(), config)
    code = "from restill.generator import load_generator\n"
    code += f"assert load_generator({str(tmp_path / 'student')!r}).sample(2).std() > 0.01"
    found = imported(code)
    assert corruptions(found) == {"corruption.noise"}
    assert {name.split(".")[0] for name in ours(found)} == DEPLOYED


def test_import_restill_waits_for_no_name() -> None:
    found = imported("import restill")
    assert ours(found) == {"core", "core.lazy", "core.version"}
    assert not {"torch", "numpy", "pydantic", "ast"} & found


MISSING = [
    "info nope", "info digit-noise", "run nope --out new", "pretrain nope --recipe tiny-noise --out new",
    "pretrain --out nope", "distill nope", "sample nope --out new", "evaluate nope", "select nope", "report nope",
    "report nope nope2", "import nope --sigma-n 1 --out new", "corrupt nope --sigma-n 1 --out new",
    "estimate-noise nope",
]  # fmt: skip


def test_a_path_that_is_not_there_is_said_before_anything_slow_is_imported(tmp_path: Path) -> None:
    code = f"import os\nfrom restill.cli.app import _run_app\nos.chdir({str(tmp_path)!r})\n"
    code += f"for words in {MISSING}:\n    assert _run_app(words.split()) == 2, words"
    found = imported(code)
    assert "restill.cli" in found and not {"torch", "numpy", "rich.console"} & found
    assert not list(tmp_path.iterdir())


LAZY = """
import {package} as package
names = set(package.__all__)
assert not names & set(vars(package)), "imported too early"
assert names <= set(dir(package)) and {{name for name in dir(package) if name[0].isupper()}} <= names | {{
    "TYPE_CHECKING", "VERSION"
}}, "__all__ and the imports for type checkers differ"
found = {{name: getattr(package, name) for name in names}}
assert len(found) > 20 and None not in found.values()
assert all(vars(package)[name] is value for name, value in found.items()), "looked up anew each time"
try:
    package.nonsense
except AttributeError as error:
    assert "{package}" in str(error) and "nonsense" in str(error)
else:
    raise AssertionError
"""


@pytest.mark.parametrize("package", ["restill", "restill.corruption"])
def test_lazy_names(package: str) -> None:
    imported(LAZY.format(package=package))


class Shape(Pluggable, family="shape", builtin={"square": f"{__name__}_of_ones_own", "round": __name__}):
    """A family of which one kind is declared here, and one in a file that is not there yet."""


class Circle(Shape, kind="round"):
    pass


def test_a_kind_is_imported_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = f"from {__name__} import Shape\nclass Square(Shape, kind='square'):\n    pass\n"
    (tmp_path / f"{__name__}_of_ones_own.py").write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    assert kinds(Shape) == ["round", "square"] and f"{__name__}_of_ones_own" not in sys.modules
    assert of_kind(Shape, "round") is Circle and f"{__name__}_of_ones_own" not in sys.modules
    square = of_kind(Shape, "square")
    assert square.__name__ == "Square" and issubclass(square, Shape) and member(Shape, "square") is square
    assert member(Shape, "oval") is None and member(Shape, ["round"]) is None
    with pytest.raises(UserError, match=r"shape\.kind: 'oval' is not a known kind: use one of round, square"):
        of_kind(Shape, "oval")


def test_nobody_takes_the_name_of_a_kind_of_ours() -> None:
    with pytest.raises(UserError, match="corruption 'mask' is restill's own; give Mine another kind"):

        class Mine(restill.Corruption, kind="mask"):
            pass

    assert of_kind(restill.Corruption, "mask") is restill.Mask
