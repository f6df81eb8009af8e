"""The rules of the house hold in every file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.style import rules
from tests.style.source import ROOT, Module, files, modules

PACKAGE_LINES = 400
TEST_LINES = 600

#: Where the breaches themselves are written down.
SPELLED_OUT = {"tests/style/rules.py", "tests/style/test_rules.py"}

TEXT_SUFFIXES = {".py", ".toml", ".md", ".yaml", ".yml", ".json", ".txt", ".cfg", ".sh", ""}

PYTHON_RULES = [rules.long_functions, rules.swallowed_exceptions, rules.vague_names]


def assert_none(breaches: Iterable[str]) -> None:
    """No breaches, or all of them in one message."""
    found = list(breaches)
    assert not found, "\n" + "\n".join(found)


def texts() -> Iterator[tuple[str, str]]:
    """Path and content of every text file of the repository; the licence is not ours to edit."""
    for path in files():
        if path.suffix in TEXT_SUFFIXES and path.name != "LICENSE":
            yield str(path), (ROOT / path).read_text(encoding="utf-8")


def test_the_rules_look_at_the_package_and_at_the_tests() -> None:
    assert "concoord_ray.errors" in {module.dotted for module in modules("concoord_ray")}
    assert "tests.style.rules" in {module.dotted for module in modules("tests")}
    assert "pyproject.toml" in {path for path, _ in texts()}


def test_files_are_short() -> None:
    assert_none(line for module in modules("concoord_ray") for line in rules.too_long(module, PACKAGE_LINES))
    assert_none(line for module in modules("tests") for line in rules.too_long(module, TEST_LINES))


@pytest.mark.parametrize("rule", PYTHON_RULES)
def test_python_files_keep(rule: Callable[[Module], Iterator[str]]) -> None:
    assert_none(line for top in ("concoord_ray", "tests") for module in modules(top) for line in rule(module))


def test_what_is_public_is_documented() -> None:
    assert_none(line for module in modules("concoord_ray") for line in rules.missing_docstrings(module))


def test_test_modules_say_what_they_are_about() -> None:
    assert_none(
        line
        for module in modules("tests")
        for line in rules.missing_docstrings(module)
        if line.endswith("no module docstring.")
    )


@pytest.mark.parametrize("rule", [rules.unfinished, rules.places])
def test_text_files_keep(rule: Callable[[str, str], Iterator[str]]) -> None:
    assert_none(line for path, text in texts() for line in rule(path, text) if path not in SPELLED_OUT)
