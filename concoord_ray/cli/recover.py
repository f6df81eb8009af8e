"""``concoord recover``: begin again from what is left, after a majority of the acceptors was lost for good."""

from __future__ import annotations

import argparse
from typing import Any

from concoord_ray import ensemble
from concoord_ray.cli.cluster import connect


def add_parser(subparsers: Any, anywhere: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "recover",
        parents=[anywhere],
        help="begin again from a replica that is left, or from a backup",
        description="Begin again after a majority of the acceptors was lost for good: from the replica that has come "
        "furthest, or from a backup. What was acknowledged after that state is lost. It is refused where nothing is "
        "lost. Handles have to be got again; fencing tokens are above all that were ever given.",
    )
    parser.add_argument("--name", required=True, help="which one; there is no default, because nothing takes it back")
    parser.add_argument("--source", metavar="FILE", help="a backup; by default the replica that has come furthest")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Begin again."""
    connect(options.address)
    recovered = ensemble.recover(options.name, source=options.source)
    print(f"Ensemble {options.name!r} runs again, as {recovered.id}.")
    return 0
