"""The ``concoord`` command against a real cluster, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import concoord_ray as concoord

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TIMEOUT_S = 90


def command(cluster: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "concoord_ray.cli", *arguments, "--address", cluster],
        cwd=Path(concoord.__file__).parents[1],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_an_ensemble_is_started_looked_at_and_stopped(cluster: str) -> None:
    started = command(
        cluster, "init", "--name", "shell", "--replicas", "2", "--acceptors", "1", "--wait-for-nodes", "1"
    )
    try:
        assert (started.returncode, started.stderr) == (0, "")
        assert started.stdout == "Ensemble 'shell' runs: acceptors 1, replicas 2, registries 1, placement SPREAD.\n"
        again = command(cluster, "init", "--name", "shell")
        assert "acceptors 1, replicas 2" in again.stdout, "its own settings hold"

        concoord.Counter.options(name="hits", ensemble="shell").remote()
        assert "shell" in command(cluster, "ls").stdout.splitlines()
        assert command(cluster, "ls", "--name", "shell").stdout == "hits\n"

        table = command(cluster, "status", "--name", "shell")
        assert table.returncode == 0
        assert table.stdout.count("\nreplica ") == 2
        told = json.loads(command(cluster, "status", "--name", "shell", "--json").stdout)
        os.kill(told["acceptors"][0]["pid"], signal.SIGKILL)
        lost = command(cluster, "status", "--name", "shell")
        assert lost.returncode == 1
        assert "NO MAJORITY" in lost.stdout
    finally:
        stopped = command(cluster, "shutdown", "--name", "shell")
    assert stopped.stdout == "Ensemble 'shell' is stopped.\n"
    assert "shell" not in command(cluster, "ls").stdout.splitlines()


def test_an_ensemble_is_looked_after(cluster: str, tmp_path: Path) -> None:
    storage, copy = str(tmp_path / "data"), str(tmp_path / "backup")
    started = command(cluster, "init", "--name", "kept", "--replicas", "1", "--acceptors", "1", "--storage", storage)
    try:
        assert f"storage {storage}.\n" in started.stdout, started.stderr
        counter = concoord.Counter.options(name="hits", ensemble="kept").remote()
        counter.increment()
        saved = command(cluster, "backup", copy, "--name", "kept")
        assert f"'kept' is in {copy}, as it was at slot " in saved.stdout, saved.stderr
        counter.increment()
        resized = command(cluster, "resize", "--name", "kept", "--replicas", "2")
        assert resized.stdout == "Ensemble 'kept' has acceptors 1, replicas 2.\n", resized.stderr
        needless = command(cluster, "recover", "--name", "kept")
        assert (needless.returncode, needless.stdout) == (2, "")
        assert "nothing to recover" in needless.stderr
        refused = command(cluster, "recover", "--name", "kept", "--source", copy)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "--force" in refused.stderr
        again = command(cluster, "recover", "--name", "kept", "--source", copy, "--force")
        assert "Ensemble 'kept' runs again, as " in again.stdout, again.stderr
        assert concoord.get("hits", ensemble="kept").getvalue() == 1, "the backup is of before the second call"
    finally:
        command(cluster, "shutdown", "--name", "kept")


def test_what_is_not_there_is_said(cluster: str) -> None:
    for subcommand in ("status", "ls", "shutdown", "resize --acceptors 1", "backup file"):
        done = command(cluster, *subcommand.split(), "--name", "nowhere")
        assert done.returncode == 2
        assert "no ensemble called 'nowhere'" in done.stderr
        assert "Traceback" not in done.stderr


def test_nodes_that_do_not_come_are_waited_for_only_so_long(cluster: str) -> None:
    done = command(cluster, "init", "--name", "wide", "--wait-for-nodes", "2", "--timeout", "1")
    assert done.returncode == 2
    assert "1 of 2 nodes have joined" in done.stderr


def test_a_cluster_that_wants_a_token_says_so(cluster: str, tmp_path: Path) -> None:
    """Ray turns tokens on for local clusters from 2.60 on; where it does not, there is nothing to refuse."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        pytest.skip("this Ray lets everybody in")
    done = command(cluster, "ls", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64, HOME=str(tmp_path))
    assert done.returncode == 2
    assert "wants a token" in done.stderr
    assert "~/.ray/auth_token" in done.stderr
    without = command(cluster, "ls", RAY_AUTH_MODE="disabled")
    assert without.returncode == 2
    assert "wants a token" in without.stderr
