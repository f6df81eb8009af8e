"""``concoord shutdown``: stop an ensemble and forget what is in it."""

from __future__ import annotations

import argparse
from typing import Any

from concoord_ray import ensemble, genesis
from concoord_ray.cli.cluster import connect
from concoord_ray.errors import ConfigurationError


def add_parser(subparsers: Any, anywhere: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "shutdown",
        parents=[anywhere],
        help="stop an ensemble and forget all of its objects",
        description="Stop an ensemble and forget all of its objects. The Ray cluster goes on.",
    )
    parser.add_argument("--name", required=True, help="which one; there is no default, because nothing brings it back")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Stop it."""
    connect(options.address)
    names = genesis.plan_names()
    if options.name not in names:
        raise ConfigurationError(
            f"There is no ensemble called {options.name!r} on this cluster; those that exist: "
            f"{', '.join(names) or 'none'}."
        )
    ensemble.shutdown(options.name)
    print(f"Ensemble {options.name!r} is stopped.")
    return 0
