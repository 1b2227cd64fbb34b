"""A class is abstract or final: no concrete method is ever overridden, so that a derived law holds for every member."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

import restill
from custom_corruptions import FourierMaskOperator
from restill import corruption, diffusion, sampling
from restill.corruption import (
    CompleteOperator,
    Identity,
    MaskingOperator,
    MaskOperator,
    MeasurementOperator,
    Operator,
    PixelOperator,
    SamplingOperator,
)
from restill.diffusion import Denoiser
from restill.sampling import Sampler

FAMILIES = {"operator": Operator, "corruption": corruption.Corruption, "denoiser": Denoiser, "sampler": Sampler}
for package in (corruption, diffusion, sampling):  # their modules are imported when a name is first used
    for name in dir(package):
        getattr(package, name)


def members(family: type) -> Iterator[type]:
    """The family's classes in the package, the abstract one first."""
    if family.__module__.startswith("restill."):
        yield family
    for member in family.__subclasses__():
        yield from members(member)


def overridden(member: type) -> set[str]:
    """Concrete methods and properties, of the package, that another class above `member` hides or takes back."""
    found = set()
    own = [kind for kind in member.__mro__ if kind.__module__.startswith("restill.")]
    for name in {name for kind in own for name in vars(kind) if not name.startswith("__")}:
        said = [vars(kind)[name] for kind in own if name in vars(kind)]
        methods = [value for value in said if inspect.isroutine(value) or isinstance(value, property)]
        concrete = [not getattr(value, "__isabstractmethod__", False) for value in methods]
        if any(concrete[1:]):
            found.add(name)
    return found


EVERY = sorted({(family, member) for family, top in FAMILIES.items() for member in members(top)}, key=str)


@pytest.mark.parametrize(("family", "member"), EVERY, ids=[member.__name__ for _, member in EVERY])
def test_no_concrete_method_is_overridden(family: str, member: type) -> None:
    assert not overridden(member)
    above = [kind for kind in member.__mro__[1:] if issubclass(kind, FAMILIES[family])]
    assert all(inspect.isabstract(kind) for kind in above)


def test_the_rule_is_seen_to_be_broken() -> None:
    class Louder(Identity):
        def apply(self, x: object) -> object:  # type: ignore[override]
            return x

    Louder.__module__ = "restill.corruption.louder"
    assert overridden(Louder) == {"apply"} and len(EVERY) > 20


def test_what_an_operator_must_say_and_may_say() -> None:
    """The numbers of docs/architecture.md."""
    may = set(Operator.__abstractmethods__)
    assert len(may) == 11 and not may & {name for name in vars(Operator) if name.startswith("_")}
    musts = {
        MaskingOperator: {"restrict", "condition"},
        CompleteOperator: {"apply", "adjoint"},
        PixelOperator: {"apply", "adjoint", "restrict", "condition"},
        SamplingOperator: {"embed", "extract", "restrict", "condition"},
        MeasurementOperator: {"apply", "adjoint", "lift", "project"},
    }
    for base, must in musts.items():
        assert set(base.__abstractmethods__) == must
    for kind, says in ((MaskOperator, 2), (corruption.MriOperator, 4), (FourierMaskOperator, 4), (corruption.Chain, 9)):
        methods = {name for name, value in vars(kind).items() if inspect.isfunction(value) and name in may}
        assert len(methods) == says, kind
    assert restill.Operator is Operator
