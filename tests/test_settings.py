"""Sections of settings and members of families: what they refuse, in which words, and that plain data describe them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import field_validator, model_validator

from restill.core.errors import UserError
from restill.core.kinds import Described, OfKind, Pluggable, described, kinds, of_kind
from restill.core.settings import Key, Section, Several, in_words, keys_of, setting


class Loss(Described, ABC, family="test-loss"):
    scale: float = setting(1.0, "factor", gt=0)

    @abstractmethod
    def __call__(self) -> float: ...


class Squares(Loss, kind="squares"):
    power: float = setting(2.0, "of the difference", ge=1, le=4)
    levels: Several[float] = setting((1.0,), "where it is taken", min_length=1)

    def __call__(self) -> float:
        return self.scale**self.power


class Plain(Loss, kind="plain"):
    def __call__(self) -> float:
        return self.scale


class Net(Described, family="test-net", tag="architecture"):
    """A family whose kind stands under another key."""


class Small(Net, kind="small"):
    width: int = setting(8, "channels", gt=0)


class Rate(Section):
    lr: float = setting(1e-4, "learning rate", gt=0, unit="per image")
    decay: Literal["none", "cosine"] = setting("none", "how it falls")


class Half(Section):
    number: int = setting(2, "an even number", gt=0)

    @field_validator("number")
    @classmethod
    def _even(cls, number: int) -> int:
        if number % 2:
            raise ValueError(f"must be even, not {number}")
        return number


class Student(Section):
    section = "student"

    images: int = setting(..., "length", gt=0, unit="images")
    batch: int = setting(4, "at a time", gt=0, unit="images")
    clip: float | None = setting(None, "largest gradient", gt=0)
    size: Annotated[tuple[int, int], None] | None = setting(None, "of images", strict=False)
    loss: Annotated[Loss, OfKind(Loss)] = setting(Squares(), "what is minimised")
    net: Annotated[Net, OfKind(Net, "small")] = setting(Small(), "the network")
    adam: Rate = Rate(lr=1e-3)
    half: Half = Half()

    @model_validator(mode="after")
    def _divides(self) -> Student:
        if self.images % self.batch:
            raise UserError(f"batch must divide images {self.images}")
        return self


class Outer(Section):
    student: Student = Student(images=8)
    levels: Several[int] = setting((1,), "some")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "student.images: is missing"),
        ({"image": 4}, "unknown key student.image: did you mean student.images?"),
        ({"images": 0}, "student.images: must be above 0, not 0"),
        ({"images": "8"}, "student.images: must be a whole number, not '8'"),
        ({"images": True}, "student.images: must be a whole number, not True"),
        ({"images": 8, "clip": float("nan")}, "student.clip: must be a finite number, not nan"),
        ({"images": 8, "adam": {"lr": 0}}, "student.adam.lr: must be above 0, not 0"),
        ({"images": 8, "adam": {"decai": 0}}, "unknown key student.adam.decai: did you mean student.adam.decay?"),
        ({"images": 8, "adam": 3}, "student.adam: must be keys and values, not 3"),
        ({"images": 8, "adam": {"decay": "x"}}, "student.adam.decay: must be 'none' or 'cosine', not 'x'"),
        ({"images": 8, "size": 8}, "student.size: must be a list, not 8"),
        ({"images": 8, "half": {"number": 3}}, "student.half.number: must be even, not 3"),
        ({"images": 9}, "student: batch must divide images 9"),
        (
            {"images": 8, "loss": 3},
            "student.loss: must be a kind, or keys and values that include one, {kind: ...}, not 3",
        ),
        (
            {"images": 8, "loss": "square"},
            "student.loss: 'square' is not a known kind: use one of plain, squares, or name",
        ),
        (
            {"images": 8, "loss": {"kind": "x"}},
            "student.loss.kind: 'x' is not a known kind: use one of plain, squares, or",
        ),
        ({"images": 8, "loss": {"power": 1}}, "student.loss.kind: is missing: use one of plain, squares"),
        ({"images": 8, "loss": {"kind": "squares", "power": 5}}, "student.loss.power: must be at most 4, not 5"),
        ({"images": 8, "loss": {"kind": "squares", "powr": 5}}, "unknown key student.loss.powr: did you mean student."),
        ({"images": 8, "loss": {"kind": "plain", "power": 5}}, "unknown key student.loss.power: did you mean"),
        ({"images": 8, "loss": {"kind": "squares", "levels": []}}, "student.loss.levels: must hold at least 1, not 0"),
        ({"images": 8, "net": {"widt": 5}}, "unknown key student.net.widt: did you mean student.net.width?"),
        (
            {"images": 8, "net": {"architecture": "big"}},
            "student.net.architecture: 'big' is not a known kind: use one of",
        ),
    ],
)
def test_what_is_refused(keys: dict[str, Any], message: str) -> None:
    for make in (lambda: Student(**keys), lambda: Outer(student=keys)):  # type: ignore[arg-type]
        with pytest.raises(UserError) as caught:
            make()
        assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_plain_data_describe_a_section_completely() -> None:
    student = Student(
        images=8, loss={"kind": "squares", "power": 3, "levels": [1, 2]}, size=[4, 5], adam={"decay": "cosine"}
    )
    data = student.model_dump(mode="json")
    assert data["loss"] == {"kind": "squares", "scale": 1.0, "power": 3.0, "levels": [1.0, 2.0]}
    assert data["net"] == {"architecture": "small", "width": 8} and data["size"] == [4, 5]
    for back in (json.loads(json.dumps(data)), yaml.safe_load(yaml.safe_dump(data))):
        assert Student(**back) == student and hash(Student(**back)) == hash(student)
    assert Student(images=8, loss=Plain()) == Student(images=8, loss="plain") != student
    assert student.loss() == 1 and isinstance(student.loss, Squares) and student.loss.levels == (1.0, 2.0)
    with pytest.raises(ValueError, match="frozen"):
        student.images = 4  # type: ignore[misc]


def test_the_keys_of_a_section() -> None:
    keys = {key.name: key for key in keys_of(Student)}
    assert list(keys) == ["images", "batch", "clip", "size", "loss", "net", "adam.lr", "adam.decay", "half.number"]
    assert keys["images"] == Key("images", "whole number, above 0", ..., "images", "length")
    assert keys["clip"].type == "number or null, above 0"
    assert keys["adam.lr"] == Key("adam.lr", "number, above 0", 1e-3, "per image", "learning rate")  # as given there
    assert keys["adam.decay"].type == "none or cosine" and keys["loss"].type == "test-loss"
    assert {key.name: key.default for key in keys_of(Outer)}["student.images"] == 8


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "whole number"),
        (float | None, "number or null"),
        (Literal["a", "b", "c"], "a, b or c"),
        (Several[int], "list of whole numbers"),
        (tuple[int, int] | None, "list of 2 whole numbers or null"),
        (Annotated[bool, "x"], "true or false"),
        (dict[str, Any], "keys and values"),
        (list[str], "list of texts"),
    ],
)
def test_types_in_words(annotation: object, words: str) -> None:
    assert in_words(annotation) == words


# Families


def test_a_family_knows_its_members() -> None:
    assert kinds(Loss) == ["plain", "squares"] and kinds(Net) == ["small"]
    assert of_kind(Loss, "plain") is Plain
    assert described(Loss, "plain") == Plain() and described(Loss, {"kind": "plain", "scale": 2}) == Plain(scale=2)
    with pytest.raises(UserError, match=r"test-loss.kind: 'x' is not a known kind: use one of plain, squares, or name"):
        of_kind(Loss, "x")
    for wrong, message in [
        ({"kind": "x"}, r"a\.b\.kind: 'x' is not a known kind"),
        ("x", r"a\.b: 'x' is not a known kind"),
        ({"kind": ["x"]}, r"a\.b\.kind: \['x'\] is not a known kind"),
        (3, r"a\.b: must be a kind, or keys and values that include one, \{kind: \.\.\.\}, not 3"),
        ({"kind": "plain", "scal": 1}, r"unknown key a\.b\.scal: did you mean a\.b\.scale\?"),
        ({"kind": "plain", "scale": 0}, r"a\.b\.scale: must be above 0, not 0"),
    ]:
        with pytest.raises(UserError, match=message):
            described(Loss, wrong, "a.b")
    with pytest.raises(UserError, match=r"test-net: must be a kind, .* include one, \{architecture: \.\.\.\}"):
        described(Net, None)


def test_a_member_alone_names_its_own_keys() -> None:
    with pytest.raises(UserError, match=r"^power: must be a number, not '3'$"):
        Squares(power="3")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="abstract"):
        Loss()  # type: ignore[abstract]


def test_a_class_that_is_no_section_can_be_plugged_in_too() -> None:
    class Reader(Pluggable, family="test-reader"):
        pass

    class Text(Reader, kind="text"):
        pass

    class Grandchild(Text):
        pass

    assert of_kind(Reader, "text") is Text and kinds(Reader) == ["text"]
