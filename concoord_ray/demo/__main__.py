"""Runs the demo. The exit code is 1 if anything was lost."""

from __future__ import annotations

import contextlib
import io
import logging
import sys

import ray

import concoord_ray as concoord
from concoord_ray.demo.account import Account
from concoord_ray.demo.play import PATIENCE_S, PERMITS, WORKERS, Play, Stuck
from concoord_ray.demo.watch import Watch


def main() -> int:
    """Start everything, play, check, stop everything."""
    account = Account()
    account.title(
        "concoord_ray: 3 acceptors, 3 replicas and a registry, as Ray actors on this machine.",
        f"{WORKERS} worker processes share {PERMITS} permits of a semaphore, and a counter. The leader will be killed.",
    )
    account.event("Ray starts")
    ray.init(
        address="local",
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    # Ray writes a paragraph about the process that is killed here on purpose. It is shown if something goes wrong.
    noise = io.StringIO()
    try:
        with contextlib.redirect_stdout(noise):
            account.event("the ensemble starts")
            ensemble = concoord.init(timeout_s=PATIENCE_S)
            with Watch(ensemble) as watch:
                findings = Play(account, watch).run()
    except Stuck as error:
        account.end(f"FAILED: {error}", noise.getvalue())
        return 1
    finally:
        concoord.shutdown()
        ray.shutdown()
    account.findings(findings)
    if not all(finding.is_right for finding in findings):
        account.end("SOMETHING WAS LOST: see what is WRONG above.", noise.getvalue())
        return 1
    account.end("The leader was killed, and nothing was lost.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
