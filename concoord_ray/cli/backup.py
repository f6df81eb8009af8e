"""``concoord backup``: the state of a whole ensemble in one file."""

from __future__ import annotations

import argparse
from typing import Any

from concoord_ray import ensemble, recovery
from concoord_ray.cli.cluster import connect, existing_plan


def add_parser(subparsers: Any, anywhere: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "backup",
        parents=[anywhere],
        help="write the state of an ensemble to a file",
        description="Write everything that an ensemble has acknowledged by now to one file of this machine, while "
        "calls go on. It is there as a whole or not at all. 'concoord recover --source FILE' begins again from it.",
    )
    parser.add_argument("path", metavar="FILE", help="replaced if it is there")
    parser.add_argument("--name", default=ensemble.DEFAULT_ENSEMBLE, help="default: %(default)s")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write it."""
    connect(options.address)
    existing_plan(options.name)
    slot = recovery.backup(options.path, options.name)
    print(f"Ensemble {options.name!r} is in {options.path}, as it was at slot {slot}.")
    return 0
