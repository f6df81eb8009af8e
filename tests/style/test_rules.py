"""Each rule of the house names the code that breaks it, and leaves the code beside it alone."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.style import rules
from tests.style.source import Module

BROKEN: list[tuple[Callable[[Module], Iterator[str]], str, str]] = [
    (rules.swallowed_exceptions, "try: f()\nexcept: raise", "bare except"),
    (rules.swallowed_exceptions, "try: f()\nexcept Exception: pass", "swallowed"),
    (rules.swallowed_exceptions, "try: f()\nexcept (OSError, BaseException): pass", "swallowed"),
    (rules.long_functions, "def f():\n" + "    g()\n" * 60, "61 lines"),
    (rules.missing_docstrings, "x = 1", "no module docstring"),
    (rules.missing_docstrings, '"""Doc."""\ndef f(): ...', "f has no docstring"),
    (rules.missing_docstrings, '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): ...', "A.f has no docstring"),
    (rules.impurities, "import time", "imports time"),
    (rules.impurities, "def f():\n    from os import path", "imports os.path"),
    (rules.impurities, "import ray.util", "imports ray.util"),
    (rules.impurities, "from random import choice", "imports random.choice"),
    (rules.impurities, "import random\nrandom.shuffle(x)", "random.shuffle is not seeded"),
    (rules.impurities, "import random\nr = random.Random()", "without a seed"),
    (rules.impurities, "x = hash(y)", "hash() differs"),
    (rules.impurities, "x = id(y)", "id() differs"),
    (lambda m: rules.ray_imports(m, frozenset({"concoord_ray.ensemble"})), "import ray", "imports ray"),
    (lambda m: rules.too_long(m, 3), "a\nb\nc\n", "3 lines"),
]

KEPT: list[tuple[Callable[[Module], Iterator[str]], str]] = [
    (rules.swallowed_exceptions, "try: f()\nexcept OSError: pass"),
    (rules.swallowed_exceptions, "try: f()\nexcept Exception as error: reply(error)"),
    (rules.long_functions, "def f():\n" + "    g()\n" * 59),
    (rules.missing_docstrings, ""),
    (rules.missing_docstrings, '"""Doc."""\ndef _f(): ...\nclass _A:\n    def f(self): ...'),
    (rules.impurities, "import random\ndef f(rng: random.Random): return rng.random()"),
    (rules.impurities, "from random import Random\nr = Random(7)"),
    (rules.impurities, "self.random.shuffle(x)"),
    (rules.impurities, "class A:\n    id: int\n    def __hash__(self): return self.id"),
    (lambda m: rules.ray_imports(m, frozenset({"concoord_ray.example"})), "import ray"),
    (lambda m: rules.too_long(m, 4), "a\nb\nc\n"),
]


def module_of(text: str, path: str = "concoord_ray/example.py") -> Module:
    """A module that exists only in this test."""
    return Module(Path(path), text, ast.parse(text))


@pytest.mark.parametrize(("rule", "text", "said"), BROKEN)
def test_a_breach_is_named(rule: Callable[[Module], Iterator[str]], text: str, said: str) -> None:
    (breach,) = rule(module_of(text))
    assert breach.startswith("concoord_ray/example.py")
    assert said in breach


@pytest.mark.parametrize(("rule", "text"), KEPT)
def test_what_is_allowed_stays_allowed(rule: Callable[[Module], Iterator[str]], text: str) -> None:
    assert list(rule(module_of(text))) == []


@pytest.mark.parametrize("path", ["concoord_ray/util.py", "concoord_ray/net/frame_helpers.py", "tests/common/x.py"])
def test_vague_names_are_breaches(path: str) -> None:
    assert list(rules.vague_names(module_of("", path)))


def test_a_name_that_contains_a_vague_word_is_fine() -> None:
    assert not list(rules.vague_names(module_of("", "concoord_ray/uncommon.py")))


@pytest.mark.parametrize(
    "line",
    ["open('/root/x')", "cd /home/somebody/src", "/work/main", "pip install --index-url x", "see https://pypi.org/p"],
)
def test_places_of_one_machine_are_breaches(line: str) -> None:
    assert list(rules.places("x", line))


@pytest.mark.parametrize(
    "line", ["~/ray", "/var/lib/ray", "a/work/b", "https://example.org/root/x", "#!/usr/bin/env bash"]
)
def test_other_paths_are_fine(line: str) -> None:
    assert not list(rules.places("x", line))


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME"])
def test_unfinished_work_is_a_breach(word: str) -> None:
    assert list(rules.unfinished("x", f"# {word}: later"))
    assert not list(rules.unfinished("x", f"a{word}s"))
