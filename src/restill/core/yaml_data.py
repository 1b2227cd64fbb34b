"""Plain data from YAML, as JSON could hold it: no other types, no key twice, and no more than its text shows."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import MappingNode, Node
from yaml.resolver import Resolver

from .reading import DEEPEST, check_plain

try:
    from yaml.cyaml import CParser as _Parser  # type: ignore[attr-defined]  # scans a hundred times as fast
except ImportError:  # pragma: no cover - PyYAML was built without libyaml

    class _Parser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):  # type: ignore[no-redef]
        """PyYAML's own parser."""

        def __init__(self, text: str) -> None:
            yaml.reader.Reader.__init__(self, text)
            yaml.scanner.Scanner.__init__(self)
            yaml.parser.Parser.__init__(self)


MOST_NODES: Final = 50_000  # keys and values, those counted again that an alias repeats
_TAGS = ("null", "bool", "int", "float", "str", "seq", "map")


class _Composer(Composer):
    """Composes nodes as PyYAML does, but counts them: ten lines of aliases of aliases stand for a billion values."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.depth = 0, 0
        self.sizes: dict[int, tuple[int, int]] = {}  # of each node, by its identity: values in it, and levels

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.AliasEvent):  # type: ignore[attr-defined]
            return self._repeated(super().compose_node(parent, index))
        before, deepest = self.count, self.depth
        self._grow(1, 1)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth = deepest
        self.sizes[id(node)] = (self.count - before, self._levels(node))
        return node

    def _levels(self, node: Any) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        inner = [part for pair in node.value for part in (pair if isinstance(node, MappingNode) else (pair,))]
        return 1 + max((self.sizes[id(part)][1] for part in inner), default=0)

    def _repeated(self, node: Any) -> Any:
        if id(node) not in self.sizes:
            raise yaml.YAMLError("an alias stands within the value that it repeats")
        self._grow(*self.sizes[id(node)])
        return node

    def _grow(self, count: int, levels: int) -> None:
        self.count += count
        if self.count > MOST_NODES:
            raise yaml.YAMLError(f"it holds more than {MOST_NODES:,} values, aliases included")
        if self.depth + levels > DEEPEST:
            raise yaml.YAMLError(f"it is nested deeper than {DEEPEST} levels")


class _Constructor(SafeConstructor):
    """Makes texts, numbers, switches, lists and mappings of nodes; a date is a text, and other tags are unknown."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: make
        for tag, make in SafeConstructor.yaml_constructors.items()
        if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _TAGS
    }

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and len(value) > 64:
            raise ConstructorError(None, None, f"a number has {len(value):,} digits", node.start_mark)
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value if isinstance(node, MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Resolver(Resolver):
    """YAML 1.2 numbers: `1e-4` is a number, where YAML 1.1 asks for `1.0e-4`, and `2001-01-01` a text, not a date."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
        for first, found in Resolver.yaml_implicit_resolvers.items()
    }


_Resolver.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)


class _Loader(_Composer, _Parser, _Constructor, _Resolver):
    def __init__(self, text: str) -> None:
        _Parser.__init__(self, text)
        _Composer.__init__(self)
        _Constructor.__init__(self)
        _Resolver.__init__(self)


def parse_yaml(text: str) -> Any:
    """Plain data from YAML, in which `1e-4` is a number. Raises yaml.YAMLError, in one line if `text` is one."""
    try:
        data = _Loader(text).get_single_data()
        check_plain(data)
    except (ValueError, KeyError) as error:  # `!!int word`, `!!bool word`, and what `check_plain` refuses
        raise yaml.YAMLError(str(error)) from error
    return data
