"""``python -m tests.integration.chaos``: a real Ray cluster, a real ensemble, and a nemesis.

Every few hundred milliseconds a member of some role is killed, or stopped for a while (a true zombie: connections open,
nobody home), as long as a majority of the acceptors and one replica with everything are left; meanwhile Ray's own RPCs
fail now and then. Clients call on all three paths. In the end the history must be linearizable with every call
answered, the counter exact, and the ensemble at full strength.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter as Tally

import ray

import concoord_ray as concoord
from concoord_ray import EnsembleStatus, MemberStatus
from tests.integration.casualties import strong
from tests.integration.load import Load
from tests.sim.linearizability import assert_linearizable
from tests.sim.models import Counter

#: How likely one of Ray's own calls is to fail before it is sent, and after it was answered, in percent.
_FAILURE = {"num_failures": -1, "req_failure_prob": 5, "resp_failure_prob": 5}
RPC_FAILURES = json.dumps({"CoreWorkerService.grpc_client.PushTask": _FAILURE})
_CALLS_A_ROUND = 40


class Nemesis:
    """Strikes one member after the other, within what the ensemble promises to survive."""

    def __init__(self, name: str, seed: int) -> None:
        self.struck: Tally[str] = Tally()
        self._name = name
        self._rng = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._rage, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End it, and let everyone go on."""
        self._over.set()
        self._thread.join()

    def _rage(self) -> None:
        while not self._over.wait(self._rng.uniform(0.2, 0.8)):
            status = concoord.status(self._name)
            # One at a time, when all the others are there: who is down or paused is back before the next is struck.
            if status.leader is None or not all(each.alive and each.in_view for each in _voters(status)):
                continue
            victim = self._rng.choice(_victims(status))
            if victim.pid is None:
                continue
            if self._rng.random() < 0.4:
                self._pause(victim, victim.pid)
            else:
                self.struck[f"kill {victim.role}"] += 1
                os.kill(victim.pid, signal.SIGKILL)

    def _pause(self, victim: MemberStatus, pid: int) -> None:
        self.struck[f"pause {victim.role}"] += 1
        os.kill(pid, signal.SIGSTOP)
        self._over.wait(self._rng.choice((0.3, 1.0, 4.0)))
        os.kill(pid, signal.SIGCONT)


def _voters(status: EnsembleStatus) -> tuple[MemberStatus, ...]:
    return (*status.acceptors, *status.replicas)


def _victims(status: EnsembleStatus) -> list[MemberStatus]:
    members = [*_voters(status), *status.registries, *status.gateways]
    return [*members, *(each for each in [status.leader] * 2 if each is not None)]


def rage(name: str, duration_s: float, seed: int) -> str:
    """Load an ensemble for so long while the nemesis rages; what happened, in a line. Raises if anything is wrong."""
    counter = concoord.Counter.options(name="chaos", ensemble=name, get_if_exists=True).remote()
    load = Load(counter, "chaos")
    nemesis = Nemesis(name, seed)
    nemesis.start()
    until_s = time.monotonic() + duration_s
    try:
        while time.monotonic() < until_s:
            load.run(_CALLS_A_ROUND, lambda: None)
    finally:
        nemesis.stop()
    operations = load.operations()
    assert all(operation.returned_ns is not None for operation in operations), "a call was never answered"
    assert_linearizable(operations, Counter())
    assert counter.getvalue() == load.increments
    status = strong(name)
    struck = ", ".join(f"{count} x {what}" for what, count in sorted(nemesis.struck.items()))
    return f"seed {seed}: {len(operations)} calls, 0 undecided; {struck}; epoch {status.epoch}"


def main() -> int:
    """Print a line a round; an exception ends it."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="how many ensembles (default %(default)s)")
    parser.add_argument("--round-s", type=float, default=60.0, help="how long each is loaded (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", help="keep everything in this directory")
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_testing_rpc_failure", RPC_FAILURES)
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    for round_ in range(arguments.rounds):
        name = f"chaos{round_}"
        concoord.init(name, storage=arguments.storage)
        print(rage(name, arguments.round_s, arguments.seed + round_), flush=True)
        concoord.shutdown(name)
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
