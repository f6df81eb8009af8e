"""The ``concoord`` command understands what it is told, and says what it does not."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from concoord_ray import ensemble, recovery
from concoord_ray.cli import main, make_parser, recover

#: Each subcommand with what it cannot do without.
SUBCOMMANDS = (
    ["init"],
    ["status"],
    ["ls"],
    ["resize", "--replicas", "2"],
    ["backup", "file"],
    ["recover", "--name", "x"],
    ["shutdown", "--name", "x"],
)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says on the standard error when it exits with 2, having printed nothing else."""
    try:
        exit_code: int | str | None = main(arguments)
    except SystemExit as exited:  # argparse's own.
        exit_code = exited.code
    assert exit_code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def test_the_defaults_are_those_of_the_library() -> None:
    options = make_parser().parse_args(["init"])
    assert (options.name, options.replicas, options.acceptors, options.registries) == ("default", 3, 3, 1)
    assert (options.placement, options.wait_for_nodes, options.address) == ("SPREAD", 1, "auto")


@pytest.mark.parametrize("arguments", SUBCOMMANDS)
def test_every_subcommand_takes_an_address(arguments: list[str]) -> None:
    assert make_parser().parse_args([*arguments, "--address", "192.0.2.1:6379"]).address == "192.0.2.1:6379"


def test_help_is_printed_and_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--help"])
    assert exited.value.code == 0
    assert "start an ensemble" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["begin"], "invalid choice: 'begin'"),
        (["init", "--replicas", "three"], "invalid int value: 'three'"),
        (["init", "--nodes", "3"], "unrecognized arguments: --nodes 3"),
        (["init", "--replicas", "0"], "replicas=0: an ensemble needs at least one"),
        (["init", "--placement", "WIDE"], "placement='WIDE': use SPREAD"),
        (["init", "--timeout", "0"], "give a positive number of seconds"),
        (["init", "--timeout", "nan"], "give a positive number of seconds"),
        (["shutdown"], "the following arguments are required: --name"),
        (["recover"], "the following arguments are required: --name"),
        (["recover", "--name", "x", "--source", "/no/such/file"], "there is no such file"),
        (["recover", "--name", "x", "--source", "/"], "this is a directory"),
        (["backup"], "the following arguments are required: FILE"),
        (["resize"], "Say how many there should be"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_ray_is_looked_for(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refusal(capsys, *arguments)


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_where_nobody_listens_it_says_so_at_once(capsys: pytest.CaptureFixture[str], subcommand: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    said = refusal(capsys, *subcommand, "--address", f"127.0.0.1:{port}")
    assert "No Ray cluster answers at" in said
    assert f":{port}" in said


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "nonsense", "127.0.0.1:port"])
def test_what_is_no_address_is_refused(capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert address in refusal(capsys, "ls", "--address", address)


def test_what_is_recovered_is_kept_where_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the working directory of the roles: a relative path is the command's."""
    asked: list[str] = []

    def recovered(_: str, *, source: str | None, **settings: Any) -> SimpleNamespace:
        asked.append(ensemble.config_of(**settings).storage)
        return SimpleNamespace(id="e")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recover, "connect", lambda _: None)
    monkeypatch.setattr(recovery, "recover", recovered)
    for more in ([], ["--storage", "data"]):
        assert main(["recover", "--name", "x", *more]) == 0
    assert asked == ["", str(tmp_path / "data")]
