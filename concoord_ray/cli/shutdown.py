"""``concoord shutdown``: stop an ensemble; what it keeps on disk stays there."""

from __future__ import annotations

import argparse
from typing import Any

from concoord_ray import ensemble
from concoord_ray.cli.cluster import connect, existing_plan


def add_parser(subparsers: Any, anywhere: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "shutdown",
        parents=[anywhere],
        help="stop an ensemble, and forget its objects unless it has storage",
        description="Stop an ensemble. The Ray cluster goes on. With storage its data stay on the disks, and 'concoord "
        "init' with the same --storage starts it again; without, all of its objects are forgotten.",
    )
    parser.add_argument(
        "--name", required=True, help="which one; there is no default, because without storage nothing brings it back"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Stop it."""
    connect(options.address)
    existing_plan(options.name)
    ensemble.shutdown(options.name)
    print(f"Ensemble {options.name!r} is stopped.")
    return 0
