"""``concoord resize``: more or fewer acceptors and replicas, while calls go on."""

from __future__ import annotations

import argparse
from typing import Any

from concoord_ray import ensemble, resizing
from concoord_ray.cli.cluster import connect, existing_plan
from concoord_ray.errors import ConfigurationError


def add_parser(subparsers: Any, anywhere: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "resize",
        parents=[anywhere],
        help="change how many acceptors and replicas there are",
        description="Change how many acceptors and replicas an ensemble has, while calls go on. Safe to repeat.",
    )
    parser.add_argument("--name", default=ensemble.DEFAULT_ENSEMBLE, help="default: %(default)s")
    parser.add_argument("--replicas", type=int, metavar="N", help="default: as many as there are")
    parser.add_argument("--acceptors", type=int, metavar="N", help="default: as many as there are")
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="wait for it so long; default: %(default)g"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Change it, and wait until it has happened."""
    if options.replicas is None and options.acceptors is None:
        raise ConfigurationError("Say how many there should be: --replicas N, --acceptors N, or both.")
    connect(options.address)
    plan = existing_plan(options.name)
    status = resizing.resize(plan, options.replicas, options.acceptors, options.timeout)
    print(f"Ensemble {options.name!r} has acceptors {len(status.acceptors)}, replicas {len(status.replicas)}.")
    return 0
