"""Ray's GCS, its own memory, is lost for a while: who knows the way goes on; and with RocksDB nothing is forgotten.

``python -m tests.integration.test_gcs`` tells how long everything took; with a number, of an outage of so many seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.integration.casualties import a_voter, kill, leader, reborn, strong
from tests.integration.drivers import Drivers
from tests.integration.machines import Ensembles, Machines, apart

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

OUTAGE_S = 4.0

FIND = """
for name in ("memory", "durable"):
    counter = concoord.get("c", ensemble=name)
    print(ray.get(counter.getvalue.remote()) == counter.getvalue() > 0)
"""


def test_calls_go_on_without_the_gcs_and_nothing_is_forgotten(tmp_path: Path) -> None:
    apart(outage, str(tmp_path))


def outage(directory: str, outage_s: float = OUTAGE_S) -> None:
    """A leader dies during the outage, whom nobody can restart before it is over; an acceptor dies after it."""
    with Machines(4, gcs_storage=f"{directory}/gcs") as machines:
        both = Ensembles(machines, directory)
        both.call_while(lambda: None)
        old = leader(strong("memory"))
        machines.kill_gcs()
        over_s = time.monotonic() + outage_s
        rounds = 0
        both.call_while(lambda: kill(old))
        while time.monotonic() < over_s:
            both.call_while(lambda: None)
            rounds += 1
        assert rounds
        machines.start_gcs()
        both.begin("the GCS is back")
        reborn("memory", "replicas", old)
        both.await_strength()
        with Drivers(machines.address) as drivers:
            assert drivers.run(FIND) == ["True", "True"]
        voter = a_voter(strong("durable"))
        both.call_while(lambda: kill(voter))
        both.await_strength()
        both.check()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        outage(directory, *map(float, sys.argv[1:]))
