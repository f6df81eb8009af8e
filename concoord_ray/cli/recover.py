"""``concoord recover``: begin again from what is left, after a majority of the acceptors was lost for good."""

from __future__ import annotations

import argparse
from typing import Any

from concoord_ray import ensemble, genesis, recovery
from concoord_ray.cli.cluster import connect
from concoord_ray.errors import ConfigurationError


def add_parser(subparsers: Any, anywhere: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "recover",
        parents=[anywhere],
        help="begin again from a replica that is left, or from a backup",
        description="Begin again after a majority of the acceptors was lost for good: from the replica that has come "
        "furthest, or from a backup. What was acknowledged after that state is lost. Without --source it is refused "
        "for an ensemble that is well; with --source such an ensemble goes back to the state of the file, which needs "
        "--force. Handles have to be got again; fencing tokens are above all that were ever given.",
    )
    parser.add_argument("--name", required=True, help="which one; there is no default, because nothing takes it back")
    parser.add_argument("--source", metavar="FILE", help="a backup; by default the replica that has come furthest")
    parser.add_argument(
        "--storage",
        metavar="DIRECTORY",
        help="keep everything on the disks of the nodes, in this directory of each; by default where the old ensemble "
        "kept it, and in memory if nothing of that runs any more",
    )
    parser.add_argument(
        "--force", action="store_true", help="go back to the state of --source although the ensemble is well"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Begin again."""
    if options.source is not None:
        recovery.checked_source(options.source)
    connect(options.address)
    if options.source is not None and not options.force:
        _refuse_if_well(options.name)
    settings: dict[str, Any] = {} if options.storage is None else {"storage": options.storage}
    recovered = recovery.recover(options.name, source=options.source, **settings)
    print(f"Ensemble {options.name!r} runs again, as {recovered.id}.")
    return 0


def _refuse_if_well(name: str) -> None:
    if genesis.find_plan(name) is not None and ensemble.status(name).is_healthy:
        raise ConfigurationError(
            f"The ensemble {name!r} is well: it has a majority and a leader. All that it has acknowledged since the "
            f"backup would be lost. If that is what you want, add --force."
        )
