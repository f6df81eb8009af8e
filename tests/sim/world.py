"""One simulated world: scheduler, trace, network and hosts of one seed."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.clock import Scheduler
from tests.sim.host import Host
from tests.sim.network import Network, NetworkProfile
from tests.sim.store import Store, StoreProfile
from tests.sim.trace import Trace


class World:
    """Builds the parts so that they share one seed and one trace."""

    def __init__(
        self,
        seed: int,
        network_profile: NetworkProfile | None = None,
        store_profile: StoreProfile | None = None,
        describe: Callable[[bytes], str] | None = None,
        full_trace: bool = False,
    ) -> None:
        self.seed = seed
        self.scheduler = Scheduler(seed)
        self.trace = Trace(self.scheduler, full=full_trace)
        if describe is None:
            self.network = Network(self.scheduler, self.trace, network_profile)
        else:
            self.network = Network(self.scheduler, self.trace, network_profile, describe)
        self._store_profile = store_profile
        self.hosts: dict[str, Host] = {}
        self.stores: dict[str, Store] = {}

    def host(self, name: str, drift_ppm: int = 0) -> Host:
        """Add a host with a disk."""
        if name in self.hosts:
            raise ValueError(f"there is a host {name!r} already")
        host = self.hosts[name] = Host(self.scheduler, self.trace, name, drift_ppm)
        self.stores[name] = Store(host, self._store_profile)
        return host

    def run(self, duration_s: float, stop: Callable[[], bool] | None = None) -> bool:
        """Run for so long, or until ``stop()``; True if that ended it."""
        return self.scheduler.run(duration_s, stop)
