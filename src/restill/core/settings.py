"""Settings: checked, immutable plain data that is written once, beside the code that it configures.

A group of settings is a `Section`. Each of its fields says its default, its limits, its unit and what it does; recipes,
`restill info` and the documentation's table of keys are made of that.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import PydanticCustomError, core_schema
from typing_extensions import Self

from .errors import UserError

T = TypeVar("T")
Several = Annotated[tuple[T, ...], Field(strict=False)]
"""A list in YAML, a tuple in Python."""


def _with_user_errors(value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> Any:
    """A section, checked; a UserError of a validator becomes one of pydantic's, which knows the key."""
    try:
        return check(value)
    except UserError as error:
        raise PydanticCustomError("inner", "{error}", {"inner": [], "error": str(error)}) from error


class Limits:
    """For `OneOrSeveral`: the limits of each number, pydantic's `ge`, `gt`, `le`, `lt`."""

    def __init__(self, **limits: float) -> None:
        self.limits = limits

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        number = core_schema.float_schema(strict=True, allow_inf_nan=False, **self.limits)  # type: ignore[arg-type]
        return core_schema.no_info_wrap_validator_function(
            _one_or_several,
            core_schema.list_schema(number),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value),
        )


def _one_or_several(value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> float | tuple[float, ...]:
    several = isinstance(value, (list, tuple))
    if several and not value:
        raise ValueError("is an empty list; state a number, or several")
    try:
        found = check(list(value) if several else [value])
    except ValidationError as error:
        raise PydanticCustomError("inner", "{error}", {"inner": [], "error": _problem(error, Section)[1]}) from None
    return tuple(found) if several else found[0]


OneOrSeveral = float | tuple[float, ...]
"""A number, or a list of numbers of which each sample draws one; `Annotated[OneOrSeveral, Limits(ge=0)]`."""


class Section(BaseModel):
    """A group of settings. Unknown keys, wrong types and impossible values are refused.

    A validator of a subclass raises ValueError, or UserError, with what is wrong; the key is put before it.

    Attributes:
        section: what its keys are called in messages, `SECTION.key`; empty where they stand alone.

    Raises:
        UserError: (on construction) names the key and says what would be right.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    section: ClassVar[str] = ""

    if not TYPE_CHECKING:

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise UserError(explain(error, type(self))) from None

        __init__.__pydantic_base_init__ = True  # a section inside another one is checked by the outer one

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(_with_user_errors, handler(source))

    def changed(self, **values: Any) -> Self:
        """The same settings but for these, checked as all are."""
        return type(self)(**{**dict(self), **values})


def setting(default: Any, does: str, *, unit: str = "", **limits: Any) -> Any:
    """A field of a `Section`.

    Args:
        default: its default; `...` where it must be stated.
        does: what it does, a phrase for tables.
        unit: of the value, e.g. "images"; empty for a pure number, a word or a switch.
        limits: pydantic's `ge`, `gt`, `le`, `lt`, `min_length`, `strict`, ...
    """
    extra: dict[str, Any] | None = {"unit": unit} if unit else None
    return Field(default, description=does, json_schema_extra=extra, **limits)


def explain(error: ValidationError, model: type[BaseModel], inside: str | None = None) -> str:
    """The first problem in one line, with its dotted key; for an unknown key with the nearest known one.

    Args:
        model: what was checked.
        inside: what the keys stand in; `model.section` by default.
    """
    path, message, near = _problem(error, model)
    prefix = getattr(model, "section", "") if inside is None else inside
    key = _dotted([*([prefix] if prefix else []), *path])
    if near is None:
        return f"{key}: {message}" if key else message
    hint = f": did you mean {'.'.join([*key.split('.')[:-1], *near])}?" if near else ""
    return f"unknown key {key}{hint}"


def wrong(key: str, problem: str) -> PydanticCustomError:
    """What is wrong with one key, to be raised by a check of the whole section: dotted, `0.key` below a list."""
    return PydanticCustomError("inner", "{error}", {"inner": key.split("."), "error": problem})


def _dotted(path: Sequence[str]) -> str:
    """`section.list[0].key`: numbers are places in a list."""
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path).removeprefix(".")


def inner_error(error: ValidationError, model: type[BaseModel]) -> PydanticCustomError:
    """The problem of a section, to be raised while another one that holds it is checked."""
    path, message, near = _problem(error, model)
    return PydanticCustomError("inner", "{error}", {"inner": path, "error": message, "near": near})


def _problem(error: ValidationError, model: type[BaseModel]) -> tuple[list[str], str, list[str] | None]:
    """Path and message of the first problem; of an unknown key also the nearest known one (a list of one or none)."""
    first = min(error.errors(), key=lambda problem: problem["type"] == "missing")  # a misspelt key is not missing
    path, context, kind = [str(part) for part in first["loc"]], first.get("ctx", {}), first["type"]
    if kind == "extra_forbidden":
        return path, "", difflib.get_close_matches(path[-1], _known(model, path[:-1]), n=1, cutoff=0.0)
    if kind == "inner":
        return [*path, *context["inner"]], str(context["error"]), context.get("near")
    if kind == "value_error":  # a sentence of ours
        return path, str(context["error"]), None
    if kind == "missing":
        return path, "is missing", None
    if kind == "too_short":
        return path, f"must hold at least {context['min_length']}, not {context['actual_length']}", None
    ours = _MESSAGES.get(kind)
    message = first["msg"].replace("Input should", "must") if ours is None else ours.format(**context)
    message = message[0].lower() + message[1:]
    return path, f"{message}, not {brief(first.get('input'))}", None


def brief(value: object, most: int = 80) -> str:
    """A value as Python writes it, without its middle where it is long."""
    text = repr(value[: 2 * most] if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 3 :]}"


_MESSAGES = {
    "model_type": "must be keys and values",
    "tuple_type": "must be a list",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
}


def _known(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Keys of the section at `path` below `model`."""
    for part in path:
        field = model.model_fields.get(part)
        found = None if field is None else _section_in(field.annotation)
        if found is None:
            return []
        model = found
    return list(model.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, also an optional one; None for a plain value."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


class Key(NamedTuple):
    """One key of a section as a table shows it; `default` is `...` where the key must be stated."""

    name: str
    type: str
    default: Any
    unit: str
    does: str


def keys_of(model: type[BaseModel], prefix: str = "", defaults: BaseModel | None = None) -> Iterator[Key]:
    """All keys of a section, those of sections in it with their dotted names.

    A key that holds a member of a family is one key: its own keys depend on its kind.

    Args:
        prefix: of the names.
        defaults: the section whose values are the defaults, where they are not those of the fields.
    """
    for name, field in model.model_fields.items():
        default: Any = ... if field.is_required() else field.get_default(call_default_factory=True)
        default = default if defaults is None else getattr(defaults, name)
        inner = _section_in(field.annotation)
        if inner is not None and not hasattr(inner, "family"):
            yield from keys_of(inner, f"{prefix}{name}.", default)
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        limits = _limits(field.metadata)
        words = f"{in_words(field.annotation)}{f', {limits}' if limits else ''}"
        yield Key(prefix + name, words, default, str(extra.get("unit", "")), field.description or "")


_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
_SIGNS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "at least"}


def in_words(annotation: Any) -> str:
    """A type as a person reads it: `whole number or null`, `none, cosine or linear`, `list of numbers`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return in_words(arguments[0])
    if origin is Literal:
        return _either([str(word) for word in arguments])
    if origin in (Union, types.UnionType):
        return _either([in_words(part) for part in arguments])
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"list of {len(arguments)} {in_words(arguments[0])}s"
    if origin in (tuple, list):
        return f"list of {in_words(arguments[0])}s"
    if origin is dict:
        return "keys and values"
    return str(_NAMES.get(annotation, getattr(annotation, "family", getattr(annotation, "__name__", annotation))))


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _limits(metadata: Sequence[Any]) -> str:
    """`at least 0 and below 1`; of a list how many."""
    found = [
        f"{word} {getattr(limit, sign):g}{' of them' if 'length' in sign else ''}"
        for limit in metadata
        for sign, word in _SIGNS.items()
        if hasattr(limit, sign)
    ]
    return " and ".join(found)
