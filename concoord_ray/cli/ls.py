"""``concoord ls``: what there is, one name a line."""

from __future__ import annotations

import argparse
from typing import Any

from concoord_ray import ensemble, genesis
from concoord_ray.cli.cluster import connect


def add_parser(subparsers: Any, anywhere: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "ls",
        parents=[anywhere],
        help="list the ensembles, or the objects of one",
        description="List the ensembles of the cluster; with --name, the named objects of that ensemble.",
    )
    parser.add_argument("--name", help="list the objects of this ensemble")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the names."""
    connect(options.address)
    names = genesis.plan_names() if options.name is None else ensemble.list_objects(ensemble=options.name)
    for name in names:
        print(name)
    return 0
