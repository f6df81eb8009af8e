"""What the README shows works when it is pasted, and what it points at is there."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import concoord_ray as concoord
from concoord_ray.cli import make_parser
from concoord_ray.config import Config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"^print\(.*\)  # (.+)$", re.MULTILINE)


def blocks(language: str) -> list[str]:
    """The code blocks in one language, in order."""
    return [code for found, code in _BLOCK.findall(README) if found == language]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_all_examples_pasted_one_after_the_other_print_what_they_say(tmp_path: Path) -> None:
    pasted = "\n".join(blocks("python"))
    expected = _EXPECTED.findall(pasted)
    assert expected
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # Interactive, as in a terminal: there a blank line ends a class. An empty directory, so that nothing else helps.
    done = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=pasted + "\n",
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    assert [line for line in done.stdout.splitlines() if line in expected] == expected, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def test_the_first_example_is_ten_lines() -> None:
    assert len([line for line in blocks("python")[0].splitlines() if line]) == 10


def test_files_that_are_linked_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert "concoord_ray/paxos/leader.py" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_error_for_callers_is_explained() -> None:
    public = {name: getattr(concoord, name) for name in concoord.__all__}
    errors = {name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, Exception)}
    between_members = {"ProtocolViolation"}
    assert {name for name in errors - between_members if f"`{name}`" not in README} == set()


def test_the_subcommands_named_are_those_that_there_are() -> None:
    (named,) = re.findall(r"`concoord (\w+)`((?:, `\w+`)*)", README)
    subcommands = {named[0], *re.findall(r"\w+", named[1])}
    listed = re.findall(r"^    (\w+) ", make_parser().format_help(), re.MULTILINE)
    assert subcommands == set(listed)


def test_what_blocking_objects_are_built_from_is_where_it_is_said_to_be() -> None:
    (named,) = re.findall(r"hold a ((?:`D\w+`, )+)\.\.\. of `([\w.]+)`", README)
    module = importlib.import_module(named[1])
    built_from = re.findall(r"\w+", named[0])
    assert "DLock" in built_from
    assert set(built_from) <= set(module.__all__)
    every = {path.stem for path in (ROOT / "concoord_ray" / "threadingobject").glob("d*.py")}
    assert every == {getattr(module, name).__module__.rpartition(".")[2] for name in module.__all__}


def test_make_has_the_targets_that_are_named() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {*re.findall(r"^make (\w+)", README, re.MULTILINE), *re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)}
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    assert {"demo", "test", "lint", "sim", "bench"} <= named & targets


def test_numbers_are_those_of_the_configuration() -> None:
    assert f"`session_ttl_s` ({Config().session_ttl_s:.0f} s)" in README
