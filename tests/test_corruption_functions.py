"""Operators that users write: checked when they are first used, loaded only because a person named the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from operators_list import more, more_adjoint
from refusals import refused
from restill.core.errors import UserCodeError, UserError
from restill.corruption import (
    Corruption,
    Function,
    corruption_from,
    corruption_kinds,
    load_operator,
    register_operator,
)

OPERATORS = {
    "raises": "def apply(x):\n    raise RuntimeError('no\\nluck')\n",
    "reshapes": "def apply(x):\n    return x.flatten(1)\n",
    "mixes-channels": "def apply(x):\n    return x.sum(1, keepdim=True)\n",
    "double": "def apply(x):\n    return x.double()\n",
    "numpy": "def apply(x):\n    return x.numpy()\n",
    "affine": "def apply(x):\n    return x + 1\n",
    "clips": "def apply(x):\n    return x.clamp(-1, 1)\n",
    "magnitude": "def apply(x):\n    return x.abs()\n",
    "noisy": "import torch\ndef apply(x):\n    return x + 0.1 * torch.randn_like(x)\n",
    "in-place": "def apply(x):\n    return x.mul_(2)\n",
    "nothing": "def apply(x):\n    return 0 * x\n",
    "infinite": "def apply(x):\n    return x / 0\n",
    "mixes-images": "def apply(x):\n    return x - x.mean(0, keepdim=True)\n",
    "wrong-adjoint": "def apply(x):\n    return 2 * x\ndef adjoint(y):\n    return y\n",
    "small-adjoint": "def apply(x):\n    return x\ndef adjoint(y):\n    return y[:, :, 1:]\n",
    "raising-adjoint": "def apply(x):\n    return x\ndef adjoint(y):\n    return y.nothing\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "apply raises RuntimeError: no luck"),
        ("reshapes", "apply of torch.float32 [2, 3, 8, 8] returned torch.float32 [2, 192]; it must keep the dtype"),
        ("mixes-channels", "apply of torch.float32 [2, 3, 8, 8] returned torch.float32 [2, 1, 8, 8]; it must keep"),
        ("double", "apply of torch.float32 [2, 3, 8, 8] returned torch.float64 [2, 3, 8, 8]; it must keep"),
        ("numpy", "apply of torch.float32 [2, 3, 8, 8] returned ndarray; it must keep"),
        ("affine", "apply is not linear: apply(a x + b z) must be a apply(x) + b apply(z); leave noise, offsets"),
        ("clips", "apply is not linear"),
        ("magnitude", "apply is not linear"),
        ("noisy", "apply is not linear"),
        ("in-place", "apply changes its argument in place; work on a copy, x.clone()"),
        ("nothing", "apply returns only 0 for random images"),
        ("infinite", "apply returns only inf for random images"),
        ("mixes-images", "apply mixes the images of a batch; each must be measured by itself"),
        ("wrong-adjoint", "adjoint is not the adjoint of apply: the sum of apply(x) * v is"),
        ("small-adjoint", "adjoint returned torch.float32 [2, 3, 7, 8] instead of torch.float32 [2, 3, 8, 8]"),
        ("raising-adjoint", "adjoint raises AttributeError: 'Tensor' object has no attribute 'nothing'"),
    ],
)  # fmt: skip
def test_operator_functions(name: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text(OPERATORS[name])
    assert load_operator(file) == name
    error = refused({"kind": "function", "name": name}, f"operator {name!r}: {message}")
    if "raises" in message:
        assert isinstance(error, UserCodeError) and error.__cause__ is not None
        assert error.__cause__.__traceback__ is not None
    chain = {"kind": "compose", "operators": [{"kind": "function", "name": name}, "mask"]}
    refused(chain, f"operator {name!r}: {message}")


def test_a_function_loaded_anew_is_checked_anew(tmp_path: Path) -> None:
    file = tmp_path / "changing.py"
    file.write_text(OPERATORS["affine"])
    law = Function(name=load_operator(file))
    with pytest.raises(UserError, match="not linear"):
        law.shapes((1, 8, 8))
    file.write_text("def apply(x):\n    return x[..., 1:]\n")
    load_operator(file)
    assert law.shapes((1, 8, 8)).observation == (1, 8, 7)
    register_operator("changing", more, more_adjoint)
    assert law.shapes((1, 8, 8)).observation == (1, 7, 10)
    register_operator("changing", torch.abs)
    with pytest.raises(UserError, match="not linear"):
        law.draw(1, (1, 8, 8), torch.Generator())


def test_images_of_badly_conditioned_measurements_are_found_one_by_one() -> None:
    """Weights from 0.2 to 1, which plain descent leaves wrong by 9%; sizes of the images differ by 10^4."""
    weights = torch.logspace(0, -0.7, 64, dtype=torch.float64).view(1, 1, 8, 8)
    register_operator("weighted", lambda x: x * weights.to(x))
    operator = Function(name="weighted").draw(3, (1, 8, 8), torch.Generator())
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x *= torch.tensor([1.0, 1e4, 1e-4]).view(3, 1, 1, 1)
    found = operator.from_domain(operator.apply(x))
    for one, exact in zip(found, x, strict=True):
        torch.testing.assert_close(one, exact, rtol=0, atol=1e-4 * float(exact.abs().max()))
    alone = operator.select(slice(0, 1))
    for k in range(3):
        again = alone.from_domain(alone.apply(x[k : k + 1]))[0]
        torch.testing.assert_close(again, found[k], rtol=1e-9, atol=1e-9 * float(x[k].abs().max()))


def test_operators_that_are_not_loaded() -> None:
    refused({"kind": "function"}, "corruption.name: is missing")
    refused({"kind": "function", "name": 3}, "corruption.name: must be a text, not 3")
    refused({"kind": "function", "name": "ct.py"}, "corruption.name: 'ct.py': remove .py, name ct")
    unknown = "operator 'unheard-of' is a Python function that is not loaded"
    refused({"kind": "function", "name": "unheard-of"}, unknown)
    with pytest.raises(UserError, match=r"name its file with --operator unheard-of\.py"):
        Function(name="unheard-of").draw(1, (1, 8, 8), torch.Generator())
    with pytest.raises(UserError, match="apply must be a function of tensors, not 3"):
        register_operator("three", 3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="must be a word, not ''"):
        register_operator("", more)


def test_operator_files(tmp_path: Path) -> None:
    for name, text, message in (
        ("broken.py", "def apply(x:\n", "broken.py: raises SyntaxError"),
        ("raising.py", "raise ValueError('two\\nlines')\n", "raising.py: raises ValueError: two lines"),
        ("leaving.py", "import sys\nsys.exit(3)\n", "leaving.py: raises SystemExit: 3"),
        ("empty.py", "", "empty.py: defines neither a function apply(x) nor a class with a kind"),
        ("text.txt", "apply = 3\n", "text.txt: --plugin takes a Python file; its name must end in .py"),
        ("three.py", "apply = 3\n", "apply must be a function of tensors, not 3"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            load_operator(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, UserCodeError) == ("raises" in message)
    with pytest.raises(UserError, match=r"absent\.py: no such file; --plugin takes a Python file"):
        load_operator(tmp_path / "absent.py")


def test_a_file_may_define_a_corruption(tmp_path: Path) -> None:
    """With annotations that are strings, which dataclasses look up in the module."""
    lines = Path(__file__).with_name("custom_corruptions.py").read_text()
    (tmp_path / "own.py").write_text(lines.replace('kind="custom-', 'kind="test-own-'))
    load_operator(tmp_path / "own.py")
    try:
        law = corruption_from({"kind": "test-own-mask", "p": 0.5})
        generator = torch.Generator().manual_seed(0)
        operator, x = law.draw(2, (1, 8, 8), generator), torch.randn(2, 1, 8, 8, generator=generator)
        mask = operator.condition()
        assert isinstance(law, Corruption) and mask is not None and 0.25 < mask.double().mean() < 0.75
        assert torch.equal(operator.apply(x), mask * x)
    finally:
        for kind in [kind for kind in corruption_kinds() if kind.startswith("test-own-")]:
            del Corruption._members[kind]


def test_functions_with_an_adjoint_may_leave_torch() -> None:
    """A pair in numpy has the gradients, also through the pseudo-inverse, of the same map by autograd."""
    matrix = torch.randn(12, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def there(x: Tensor) -> Tensor:
        return (x.flatten(1) @ matrix.to(x).T).view(len(x), 1, 3, 4)

    def numpy_there(x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy().reshape(len(x), -1) @ matrix.to(x).numpy().T).view(len(x), 1, 3, 4)

    def numpy_back(y: Tensor) -> Tensor:
        return torch.from_numpy(y.numpy().reshape(len(y), -1) @ matrix.to(y).numpy()).view(len(y), 1, 4, 5)

    register_operator("in-torch", there)
    register_operator("in-numpy", numpy_there, numpy_back)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 1, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    d = torch.randn(3, 1, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    found = []
    for name in ("in-torch", "in-numpy"):
        operator = Function(name=name).draw(3, (1, 4, 5), torch.Generator())
        loss = operator.apply(x).square().sum() + operator.lift(d).pow(3).sum() + operator.adjoint(d).pow(3).sum()
        found.append(torch.autograd.grad(loss, (x, d)))
    for by_autograd, stated in zip(*found, strict=True):
        assert by_autograd.abs().max() > 0.1
        torch.testing.assert_close(stated, by_autograd, rtol=1e-7, atol=1e-9)
