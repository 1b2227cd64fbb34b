"""Everything that can be plugged in is known by its kind.

A family (corruptions, objectives, distillation losses, samplers, features, readers, networks) is an abstract class; a
member names its kind where it is declared:

    class Corruption(Pluggable, family="corruption"): ...
    class Blur(Corruption, kind="blur"): ...

Recipes, stores and networks on disk hold the kind, a word. It is looked up among restill's own (`builtin`, whose
modules are imported when their kind is first asked for) and the classes that have been imported, so that nothing which
is loaded is executed: a user's own class is imported because a person named its file on the command line
(`--plugin my.py`), or installed a package that declares it (`plugins.py`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import (
    GetCoreSchemaHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import PydanticCustomError, SchemaValidator, core_schema

from .errors import UserError
from .plugins import load_installed
from .settings import Section, brief, explain, inner_error


class Pluggable:
    """A class of a family. `family` is said by the abstract class alone, `kind` by every class that can be named.

    The abstract class may also say in which modules the kinds of restill are declared (`builtin`), so that only those
    are imported that someone names.

    Attributes:
        kind: the word in recipes and on disk.
        family: what messages call the family.
        tag: the key that holds the kind in plain data; the abstract class may say another one.
    """

    kind: ClassVar[str]
    family: ClassVar[str]
    tag: ClassVar[str]
    _members: ClassVar[dict[str, type[Any]]]
    _builtin: ClassVar[Mapping[str, str]]

    def __init_subclass__(
        cls,
        *,
        family: str | None = None,
        tag: str = "kind",
        kind: str | None = None,
        builtin: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init_subclass__(**more)
        if family is not None:
            cls.family, cls.tag, cls._members, cls._builtin = family, tag, {}, builtin or {}
        if kind is not None:
            known = cls._members.get(kind)
            owner = cls._builtin.get(kind, cls.__module__ if known is None else known.__module__)
            if owner != cls.__module__:
                whose = "restill's own" if owner.partition(".")[0] == "restill" else f"already declared in {owner}"
                raise UserError(f"{cls.family} {kind!r} is {whose}; give {cls.__name__} another kind")
            cls.kind = kind
            cls._members[kind] = cls


PluggableT = TypeVar("PluggableT", bound=Pluggable)


def kinds(family: type[Pluggable]) -> list[str]:
    """The kinds of a family that are known at this moment: restill's own and those of plug-ins."""
    return sorted({*family._members, *family._builtin})


def member(family: type[PluggableT], kind: object) -> type[PluggableT] | None:
    """The class of a kind, or None for an unknown one; to find it, installed plug-ins are imported.

    Raises:
        UserError: the class does not define all that its family asks for.
    """
    if not isinstance(kind, str):
        return None
    if kind not in family._members and kind in family._builtin:
        importlib.import_module(family._builtin[kind])
    elif kind not in family._members:
        load_installed()
    found = family._members.get(kind)
    if found is not None and (lacks := sorted(getattr(found, "__abstractmethods__", ()))):
        raise UserError(f"{family.family} {kind!r}: the class {found.__name__} must define {', '.join(lacks)}")
    return found


def of_kind(family: type[PluggableT], kind: object, key: str | None = None) -> type[PluggableT]:
    """The class of a kind.

    Args:
        key: what the user wrote it under, for the message; `FAMILY.kind` by default.

    Raises:
        UserError: an unknown kind; lists the known ones.
    """
    found = member(family, kind)
    if found is None:
        raise UserError(f"{key or f'{family.family}.{family.tag}'}: {_unknown(family, kind)}")
    return found


def _unknown(family: type[Pluggable], kind: object) -> str:
    known = ", ".join(kinds(family))
    given = "is missing" if kind is None else f"{brief(kind)} is not a known kind"
    return f"{given}: use one of {known}, or name the file that defines it with --plugin"


class Described(Section, Pluggable):
    """A member of a family whose settings are its fields: plain data with its kind describes it completely."""

    @model_serializer(mode="wrap")
    def _with_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.tag: self.kind, **handler(self)}


DescribedT = TypeVar("DescribedT", bound=Described)


def described(family: type[DescribedT], description: object, key: str | None = None) -> DescribedT:
    """The object that plain data describe: a mapping with a kind, or a kind alone.

    Args:
        key: what the user wrote it under, for messages; the family's name by default.

    Raises:
        UserError: neither a kind nor a mapping, an unknown kind, an unknown key (names the nearest known one) or an
            impossible value.
    """
    try:
        found: DescribedT = SchemaValidator(OfKind(family).schema()).validate_python(description)
    except ValidationError as error:
        raise UserError(explain(error, family, key or family.family)) from None
    return found


class OfKind:
    """For `Annotated[Family, OfKind(Family)]`: a field of a section that holds a member of a family.

    Args:
        family: the abstract class.
        otherwise: the kind of a mapping that states none; by default it must be stated.
    """

    def __init__(self, family: type[Described], otherwise: str | None = None) -> None:
        self.family, self.otherwise = family, otherwise

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return self.schema()

    def schema(self) -> core_schema.CoreSchema:
        """An object of the family, or plain data that describe one."""
        return core_schema.no_info_plain_validator_function(
            self._read,
            serialization=core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True),
        )

    def _read(self, value: object) -> object:
        if isinstance(value, self.family):
            return value
        if not isinstance(value, (str, Mapping)):
            form = f"{{{self.family.tag}: ...}}"
            problem = f"must be a kind, or keys and values that include one, {form}, not {brief(value)}"
            raise PydanticCustomError("inner", "{error}", {"inner": [], "error": problem})
        data = {self.family.tag: value} if isinstance(value, str) else dict(value)
        kind = data.pop(self.family.tag, self.otherwise)
        found = member(self.family, kind)
        if found is None:
            path = [] if isinstance(value, str) else [self.family.tag]
            raise PydanticCustomError("inner", "{error}", {"inner": path, "error": _unknown(self.family, kind)})
        try:
            return found.model_validate(data)
        except ValidationError as error:
            raise inner_error(error, found) from None


def _dumped(value: Described, info: SerializationInfo) -> dict[str, Any]:
    return value.model_dump(mode=info.mode)
