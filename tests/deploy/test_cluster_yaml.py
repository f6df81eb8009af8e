"""The cluster configuration is one that Ray takes, and its commands are ones that Ray and the shell understand."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from concoord_ray.cli import make_parser

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


def config() -> dict[str, Any]:
    """A fresh copy of what is in the file."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "ray-cluster.yaml").read_text())
    return loaded


def commands() -> list[str]:
    """Every shell command of the file."""
    return [line for key, lines in config().items() if key.endswith("_commands") for line in lines]


def arguments(program: str) -> list[list[str]]:
    """The arguments of every call of ``program``, up to the end of the shell command."""
    calls = [line.split(f"{program} ", 1)[1] for line in commands() if f"{program} " in line]
    return [shlex.split(re.split(r"[;&|<>]", call)[0]) for call in calls]


def test_the_file_matches_rays_schema() -> None:
    jsonschema.validate(config(), SCHEMA)


@pytest.mark.parametrize("key", SCHEMA["required"])
def test_the_schema_misses_a_required_key(key: str) -> None:
    broken = config()
    del broken[key]
    with pytest.raises(jsonschema.ValidationError, match=key):
        jsonschema.validate(broken, SCHEMA)


def test_the_schema_refuses_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError, match="head_start_commands"):
        jsonschema.validate(config() | {"head_start_commands": []}, SCHEMA)


def test_the_launcher_accepts_the_file_with_its_defaults_filled_in() -> None:
    prepared = prepare_config(copy.deepcopy(config()))
    validate_config(prepared)
    workers = len(config()["provider"]["worker_ips"])
    assert prepared["available_node_types"]["local.cluster.node"]["min_workers"] == workers


def test_what_is_mounted_is_in_the_repository() -> None:
    sources = [source for source in config()["file_mounts"].values() if not source.startswith("~")]
    assert "./pyproject.toml" in sources
    for source in sources:
        assert (ROOT / source).exists(), f"{source} is not there to be copied"


@pytest.mark.parametrize("command", commands())
def test_commands_are_shell(command: str) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True, timeout=10)


def test_ray_start_has_the_options_that_are_used() -> None:
    head, worker = arguments("bin/ray start")
    assert start.make_context("ray start", head).params["head"] is True
    assert start.make_context("ray start", worker).params["address"] == "$RAY_HEAD_IP:6379"


def test_everything_that_joins_the_cluster_shows_its_secret() -> None:
    joining = [command for command in commands() if "ray start" in command or "concoord init" in command]
    assert len(joining) == 3
    assert all("RAY_AUTH_MODE=token " in command for command in joining)
    assert "~/.ray/auth_token" in config()["file_mounts"]


def test_the_head_creates_one_ensemble_that_the_cluster_can_hold() -> None:
    (words,) = arguments("bin/concoord init")
    options = make_parser().parse_args(["init", *words])
    nodes = 1 + len(config()["provider"]["worker_ips"])
    assert options.placement == "STRICT_SPREAD"
    assert options.acceptors == options.replicas == options.wait_for_nodes == 3
    assert nodes > options.wait_for_nodes, "there is no spare"


def test_the_commands_of_the_manual_are_ones_that_the_parser_takes() -> None:
    manual = (ROOT / "deploy" / "README.md").read_text()
    commands = re.findall(r"bin/concoord ([^'`\n]+)", manual)
    assert commands
    for command in commands:
        make_parser().parse_args(shlex.split(command))
