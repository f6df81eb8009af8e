"""The rules of the house as functions: each takes modules or text and yields one line per breach, ``path:line: why``.

They are apart from the tests so that each rule is itself tested against a piece of code that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.style.source import Module

VAGUE_NAMES = frozenset({"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"})
FUNCTION_LINES = 60

#: A line that names the machine it was written on, or a package registry.
_PLACES = re.compile(
    r"(?<![\w.~$<}])/(?:root|work|home/\w|Users/\w|tmp/\w|opt/(?!homebrew)\w)[\w/.-]*"
    r"|\b(?:pypi|files\.pythonhosted|registry\.npmjs|deb\.debian|artifactory|nexus)\.[a-z]+\b"
    r"|--(?:extra-)?index-url|--find-links",
    re.IGNORECASE,
)
_UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")

_IMPURE = frozenset(
    {
        "asyncio", "concurrent", "datetime", "multiprocessing", "os", "ray", "secrets", "select", "socket", "ssl",
        "subprocess", "threading", "time", "uuid", "uvloop",
    }
)  # fmt: skip

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def too_long(module: Module, limit: int) -> Iterator[str]:
    """Files of ``limit`` lines or more."""
    lines = module.text.count("\n")
    if lines >= limit:
        yield f"{module.path}: {lines} lines, the limit is {limit}. Split it by subject."


def long_functions(module: Module) -> Iterator[str]:
    """Functions of more than ``FUNCTION_LINES`` lines, docstring included."""
    for node in ast.walk(module.tree):
        if isinstance(node, _Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{module.where(node)}: {node.name} has {lines} lines, the limit is {FUNCTION_LINES}."


def swallowed_exceptions(module: Module) -> Iterator[str]:
    """``except:``, and broad handlers that do nothing."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield f"{module.where(node)}: bare except. Name what is expected."
        elif _is_broad(node.type) and all(isinstance(line, ast.Pass) for line in node.body):
            yield f"{module.where(node)}: every exception is swallowed. Name what is expected, or log and re-raise."


def _is_broad(caught: ast.expr) -> bool:
    types = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(_is_name(one, "Exception", "BaseException") for one in types)


def unfinished(path: str, text: str) -> Iterator[str]:
    """Notes to oneself."""
    for number, line in enumerate(text.splitlines(), 1):
        if _UNFINISHED.search(line):
            yield f"{path}:{number}: unfinished: {line.strip()}"


def vague_names(module: Module) -> Iterator[str]:
    """Modules and packages whose name says nothing."""
    for part in module.path.with_suffix("").parts:
        if VAGUE_NAMES.intersection(part.split("_")):
            yield f"{module.path}: the name {part!r} does not say what is in it."


def missing_docstrings(module: Module) -> Iterator[str]:
    """A module, public class or public function without a docstring. An empty ``__init__.py`` needs none."""
    if not module.tree.body:
        return
    if ast.get_docstring(module.tree) is None:
        yield f"{module.path}:1: no module docstring."
    yield from _undocumented(module, module.tree.body, "")


def _undocumented(module: Module, body: list[ast.stmt], inside: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, _Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        accessory = any(_last_name(one) in ("overload", "setter", "override") for one in node.decorator_list)
        if ast.get_docstring(node) is None and not accessory:
            yield f"{module.where(node)}: {inside}{node.name} has no docstring."
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(module, node.body, f"{node.name}.")


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def places(path: str, text: str) -> Iterator[str]:
    """Absolute paths of one machine, and hosts of package registries."""
    for number, line in enumerate(text.splitlines(), 1):
        found = _PLACES.search(line)
        if found and not line.startswith("#!"):
            yield f"{path}:{number}: {found.group()!r} holds on one machine only."


def _is_name(node: ast.expr, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def imported(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """Every name that is imported anywhere in the module, absolute and dotted."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


def impurities(module: Module) -> Iterator[str]:
    """What a deterministic module may not do: import I/O, clocks or Ray, draw unseeded numbers, ask an id or a hash."""
    for node, name in imported(module):
        if name.split(".")[0] in _IMPURE:
            yield f"{module.where(node)}: imports {name}; a pure module gets it as an event or a parameter."
        if name.startswith("random.") and name != "random.Random":
            yield f"{module.where(node)}: imports {name}; take a seeded random.Random as a parameter."
    for used in ast.walk(module.tree):
        if isinstance(used, ast.Attribute) and _is_name(used.value, "random") and used.attr != "Random":
            yield f"{module.where(used)}: random.{used.attr} is not seeded; take a random.Random as a parameter."
        if isinstance(used, ast.Call):
            yield from _impure_call(module, used)


def _impure_call(module: Module, call: ast.Call) -> Iterator[str]:
    name = _last_name(call.func)
    if _is_name(call.func, "id", "hash"):
        yield f"{module.where(call)}: {name}() differs between processes."
    if name == "Random" and not call.args:
        yield f"{module.where(call)}: Random() without a seed differs between replicas."


def ray_imports(module: Module, allowed: frozenset[str]) -> Iterator[str]:
    """Imports of Ray outside the modules (or packages) ``allowed``."""
    if any(module.dotted == name or module.dotted.startswith(f"{name}.") for name in allowed):
        return
    for node, name in imported(module):
        if name.split(".")[0] == "ray":
            yield f"{module.where(node)}: imports {name}; only {', '.join(sorted(allowed))} may."
