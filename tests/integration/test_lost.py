"""Who is cut off learns that its grant may be gone, though nobody can tell it any more."""

from __future__ import annotations

import os
import signal

import pytest

import concoord_ray as concoord
from tests.integration.conftest import MakeEnsemble
from tests.integration.drivers import Drivers
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray]

HOLD = """
import threading
lock = concoord.Lock.options(name="lock", ensemble=name).remote()
print(lock.acquire(), flush=True)
ref = lock.lost.remote()
direct = threading.Thread(target=lambda: print("direct", lock.lost(), flush=True))
direct.start()
print("remote", ray.get(ref), flush=True)
direct.join()
"""


def test_who_is_cut_off_is_told_by_its_own_lease_timer(own_ensemble: MakeEnsemble, drivers: Drivers) -> None:
    ensemble = own_ensemble(acceptors=1, replicas=1, session_ttl_s=3.0)
    holder = drivers.start(HOLD, name=ensemble.name)
    assert holder.line() == "True"
    lock = concoord.get("lock", ensemble=ensemble.name)
    until(lambda: len(lock.inspect().awaiting_loss) == 2)
    (replica,) = ensemble.status().replicas
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        assert {holder.line(), holder.line()} == {"direct True", "remote True"}
    finally:
        os.kill(replica.pid, signal.SIGCONT)
