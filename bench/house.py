"""How a newcomer finds the house: sizes, contracts and waiting times of a checkout, to compare with those of another.

python bench/house.py [SRC ...]          e.g. python bench/house.py ../before/src src
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
DEPLOYER = "import json, sys; from restill.generator import load_generator; json.dump(sorted(sys.modules), sys.stdout)"
HELP = "import sys; from restill.cli import main; sys.argv = ['restill', '--help']; main()"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def code_lines(text: str) -> int:
    """Lines that are neither empty, nor comments, nor docstrings, nor imports."""
    tree = ast.parse(text)
    rest: set[int] = set()
    for node in ast.walk(tree):
        is_text = (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        if is_text or isinstance(node, (ast.Import, ast.ImportFrom)):
            rest |= set(range(node.lineno, (node.end_lineno or 0) + 1))  # type: ignore[attr-defined]
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for number, line in lines if line.strip() and not line.strip().startswith("#") and number not in rest)


def contract(package: Path) -> dict[str, list[str]]:
    """Public methods of `Operator` that a subclass must define, those that it may, and those that it cannot."""
    tree = ast.parse((package / "corruption" / "operator.py").read_text())
    (operator,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Operator")
    found: dict[str, list[str]] = {"must": [], "may": [], "final": []}
    for method in operator.body:
        if isinstance(method, Function) and not method.name.startswith("_"):
            marks = {ast.unparse(mark) for mark in method.decorator_list}
            where = "must" if "abstractmethod" in marks else "final" if marks & {"final", "staticmethod"} else "may"
            found[where].append(method.name)
    return found


def said(package: Path) -> dict[str, int]:
    """How many public methods each operator of the package defines; `bases.py` has what they share."""
    files = sorted((package / "corruption").rglob("*.py"))
    classes = {
        node.name: (file.stem, node)
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    operators = {"Operator"}
    while (
        more := {name for name, (_, node) in classes.items() if operators & {ast.unparse(base) for base in node.bases}}
        - operators
    ):
        operators |= more
    return {
        name: sum(isinstance(part, Function) and not part.name.startswith("_") for part in classes[name][1].body)
        for name in sorted(operators - {"Operator"})
        if classes[name][0] not in ("bases", "traits")
    }


def process(code: str, source: Path) -> tuple[str, float]:
    """Output and seconds of a new process that imports the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout, time.perf_counter() - start


def measured(source: Path, turns: int) -> dict[str, object]:
    """All measures of the checkout whose package is `source/restill`."""
    package = source / "restill"
    texts = [file.read_text() for file in sorted(package.rglob("*.py"))]
    lengths = sorted(body_lines(function) for text in texts for function in functions(ast.parse(text)))
    modules = [name for name in json.loads(process(DEPLOYER, source)[0]) if name.split(".")[0] == "restill"]
    seconds = [process(HELP, source)[1] for _ in range(turns)]
    bare = [process("pass", source)[1] for _ in range(turns)]
    methods, defined = contract(package), said(package)
    return {
        "lines of src": sum(len(text.splitlines()) for text in texts),
        "of them code, without imports, comments, docstrings and blank lines": sum(map(code_lines, texts)),
        "methods an operator may define": len(methods["must"] + methods["may"]),
        "methods derived from them, final": len(methods["final"]),
        "methods that our operators define, median / most": (
            f"{statistics.median(defined.values()):g} / {max(defined.values())}"
        ),
        "functions": len(lengths),
        "lines of a function, median / 90th percentile / most": (
            f"{statistics.median(lengths):g} / {lengths[int(0.9 * len(lengths))]} / {lengths[-1]}"
        ),
        "modules of restill that the deployer imports": len(modules),
        "seconds of restill --help, median": f"{statistics.median(seconds):.2f}",
        "seconds of Python alone, median": f"{statistics.median(bare):.2f}",
        **additions(source.parent / "tests"),
    }


def additions(tests: Path) -> dict[str, object]:
    """Lines of code of each kind that the tests add from outside the package, with what it needs of its file."""
    found: dict[str, object] = {}
    for file in sorted([*tests.glob("custom_*.py"), *tests.glob("plugins/*.py")]):
        tree = ast.parse(file.read_text())
        parts = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        for name, node in parts.items():
            if isinstance(node, ast.ClassDef) and any(keyword.arg == "kind" for keyword in node.keywords):
                needed = closure(name, parts)
                found[f"lines to add {file.stem}.{name}"] = sum(code_lines(ast.unparse(parts[each])) for each in needed)
    return found


def closure(name: str, parts: dict[str, ast.ClassDef | ast.FunctionDef]) -> set[str]:
    """The classes and functions of a file that one of them needs, itself among them."""
    needed, waiting = set(), [name]
    while waiting:
        needed.add(one := waiting.pop())
        names = {node.id for node in ast.walk(parts[one]) if isinstance(node, ast.Name)}
        waiting += (names & parts.keys()) - needed
    return needed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, default=[HERE / "src"])
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    columns = [measured(source.resolve(), arguments.turns) for source in arguments.sources]
    print("| measure | " + " | ".join(str(source) for source in arguments.sources) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for name in dict.fromkeys(name for column in columns for name in column):
        print(f"| {name} | " + " | ".join(str(column.get(name, "")) for column in columns) + " |")


if __name__ == "__main__":
    main()
