"""The ``concoord`` command: one module per subcommand, each with ``add_parser`` and ``run``.

Exit codes: 0 done; 1 the ensemble cannot (``status``: it has no leader or no majority, or has diverged); 2 the command
was wrong, or what it names is not there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from concoord_ray.cli import backup, init, ls, recover, resize, shutdown, status
from concoord_ray.errors import ConcoordError, ConfigurationError

_SUBCOMMANDS = (init, status, ls, resize, backup, recover, shutdown)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line. ``run`` of what it gives does what was asked."""
    parser = argparse.ArgumentParser(
        prog="concoord", description="Ensembles on a Ray cluster: start, look after, stop."
    )
    parser.add_argument("--version", action="version", version=f"concoord {version('concoord_ray')}")
    anywhere = argparse.ArgumentParser(add_help=False)
    anywhere.add_argument(
        "--address",
        default="auto",
        help="host:port of the Ray cluster; by default $RAY_ADDRESS, or the one that runs on this machine",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for subcommand in _SUBCOMMANDS:
        subcommand.add_parser(subparsers, anywhere)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        exit_code: int = options.run(options)
        sys.stdout.flush()
    except ConcoordError as error:
        print(f"concoord {options.command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # Whoever read the output has enough of it; the interpreter's own last flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return exit_code
