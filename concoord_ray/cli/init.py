"""``concoord init``: start an ensemble, or see that it runs."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import ray

from concoord_ray import ensemble
from concoord_ray.cli.cluster import connect
from concoord_ray.config import Config
from concoord_ray.errors import ConfigurationError

_DEFAULTS = Config()
_NODE_POLL_INTERVAL_S = 0.5


def add_parser(subparsers: Any, anywhere: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "init",
        parents=[anywhere],
        help="start an ensemble",
        description="Start an ensemble, which then runs as long as the Ray cluster does. Harmless if it runs already: "
        "then it keeps its own settings.",
    )
    parser.add_argument("--name", default=ensemble.DEFAULT_ENSEMBLE, help="default: %(default)s")
    parser.add_argument(
        "--replicas",
        type=int,
        default=_DEFAULTS.replicas,
        metavar="N",
        help="all but one may die; default: %(default)s",
    )
    parser.add_argument(
        "--acceptors",
        type=int,
        default=_DEFAULTS.acceptors,
        metavar="N",
        help="a minority may die; default: %(default)s",
    )
    parser.add_argument(
        "--registries", type=int, default=_DEFAULTS.registries, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--placement",
        default=_DEFAULTS.placement,
        help="a strategy of Ray's placement groups: SPREAD works on one machine, STRICT_SPREAD insists on a node for "
        "each acceptor and each replica; default: %(default)s",
    )
    parser.add_argument(
        "--storage",
        metavar="DIRECTORY",
        help="keep everything on the disks of the nodes, in this directory of each, and start again from what is "
        "there; by default everything is in memory",
    )
    parser.add_argument(
        "--wait-for-nodes", type=int, default=1, metavar="N", help="wait until the cluster has N nodes; default: 1"
    )
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="give up after this long; default: %(default)g"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Start it, print what came of it."""
    sizes = {name: getattr(options, name) for name in ("replicas", "acceptors", "registries", "placement")}
    Config(**sizes)  # Settings that cannot work are told before anybody waits for nodes.
    if not options.timeout > 0:
        raise ConfigurationError(f"--timeout {options.timeout:g}: give a positive number of seconds.")
    until_s = time.monotonic() + options.timeout
    connect(options.address)
    _wait_for_nodes(options.wait_for_nodes, until_s)
    left_s = max(1.0, until_s - time.monotonic())
    started = ensemble.init(options.name, timeout_s=left_s, storage=options.storage, **sizes)
    config = started.config
    print(
        f"Ensemble {started.name!r} runs: acceptors {config.acceptors}, replicas {config.replicas}, "
        f"registries {config.registries}, placement {config.placement}"
        f"{f', storage {config.storage}' if config.storage else ''}."
    )
    return 0


def _wait_for_nodes(wanted: int, until_s: float) -> None:
    told = -1
    while True:
        here = sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]
        if here >= wanted:
            return
        if time.monotonic() > until_s:
            raise ConfigurationError(f"{here} of {wanted} nodes have joined the cluster; the time is over.")
        if here != told:
            print(f"{here} of {wanted} nodes have joined.", file=sys.stderr, flush=True)
            told = here
        time.sleep(_NODE_POLL_INTERVAL_S)
