"""Writes docs/recipe-keys.md, the table of all keys of a recipe: `python docs/recipe_keys.py`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from restill.core.kinds import kinds, of_kind
from restill.core.settings import Key, keys_of
from restill.runs.recipe import Recipe
from restill.runs.recipe_keys import FAMILIES, member_keys, tag, written

PAGE = Path(__file__).with_name("recipe-keys.md")
TOP = """\
# Keys of a recipe

Written by `python docs/recipe_keys.py` from the settings themselves; change those, not this page.

A recipe is a YAML file. Every key but `name` may be left out; `--set key.path=value` changes one. `restill info RECIPE`
shows the keys that differ from these defaults, `restill info RECIPE --keys` all, and `restill info RUN --keys` those
of a run. A kind may be one of your own: see [plug-ins](your-data.md#plug-ins).
"""


def page() -> str:
    """The whole page."""
    sections: dict[str, list[Key]] = {}
    for key in keys_of(Recipe):
        section = key.name.partition(".")[0]
        if key.name in FAMILIES and "." not in key.name:
            sections[section] = []
        else:
            sections.setdefault(section if "." in key.name else "", []).append(key)
    parts = [TOP]
    for name, keys in sections.items():
        family = FAMILIES.get(name)
        parts += [f"## `{name}`\n" if name else "## At the top\n", *([table(keys)] if keys else [])]
        if family is not None:
            parts.append(f"By `{name}.{tag(name)}`:\n")
            parts += list(of_kinds(name))
        for key in keys:
            parts += [f"By `{key.name}`:\n", *of_kinds(key.name)] if key.name in FAMILIES else []
    return "\n".join(parts)


def of_kinds(name: str) -> Iterable[str]:
    """The kinds of a family in words, and a table of their keys, once for kinds of the same keys."""
    tables: dict[str, list[str]] = {}
    for kind in kinds(FAMILIES[name]):
        found = of_kind(FAMILIES[name], kind)
        if found.__module__.partition(".")[0] == "restill":  # and not a plug-in's
            does = (found.__doc__ or "").strip().splitlines()[0].replace(":math:", "")
            tables.setdefault(table(member_keys(name, kind)), []).append(f"- `{kind}`: {does}")
    for keys, words in tables.items():
        yield "\n".join([*words, ""])
        yield keys


def table(keys: Iterable[Key]) -> str:
    """Keys as a table of Markdown."""
    keys = list(keys)
    if not keys:
        return "(no keys of their own)\n"
    rows = ["| key | default | type | unit | what it does |", "|---|---|---|---|---|"]
    for key in keys:
        default = key.default if not hasattr(key.default, "kind") else key.default.kind
        cells = (f"`{key.name}`", f"`{written(default)}`", key.type, key.unit, key.does)
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join([*rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
