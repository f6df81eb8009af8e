"""An acceptor on a simulated host: the production core, and the order between its disk and its answers.

Mirrors ``concoord_ray.roles.acceptor``: what a step asks to persist is durable before anything that the same or a later
step sends leaves.
"""

from __future__ import annotations

from concoord_ray.config import Config
from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.messages import P1a, P2a, Ping
from concoord_ray.paxos.outputs import Outputs
from concoord_ray.paxos.view import Member, View
from concoord_ray.roles.boot import decode
from tests.sim.disk import Journal
from tests.sim.host import Host
from tests.sim.invariants import Watch
from tests.sim.lines import bulk_of
from tests.sim.network import Network


class AcceptorShell:
    """One life of one acceptor."""

    def __init__(self, journal: Journal, host: Host, network: Network, watch: Watch, config: Config) -> None:
        self.me = journal.me
        self._watch = watch
        self._core = Acceptor(self.me, page_bytes=config.catch_up_page_bytes)
        watch.acceptor_restarted(self.me, list(journal.records))  # Also without any: what was not answered may be gone.
        self._core.restore(journal.records)
        self._journal = journal
        self._clock = host.clock
        self._bulk = bulk_of(self.me, network, config)
        network.attach(self.me, host, self)

    @property
    def truncated_below(self) -> int:
        """What it has dropped."""
        return self._core.truncated_below

    def join(self, view: View) -> None:
        """Take part, if the view names this incarnation."""
        if self._core.view is None:
            self._core.join(view)
            self._perform()

    # network.Endpoint

    def received(self, sender: Member, data: bytes) -> None:
        message = decode(data)
        assert isinstance(message, (P1a, P2a, Ping))
        self._core.receive(sender, message)
        self._perform()

    def opened(self, peer: Member) -> None:
        """An acceptor waits to be asked."""

    def closed(self, peer: Member) -> None:
        """An acceptor waits to be asked."""
        self._bulk.disconnected(peer)

    def _perform(self) -> None:
        outputs = self._core.outputs.take()
        self._watch.acceptor_stepped(self.me, outputs.persist)
        self._journal.submit(outputs.persist, lambda: self._send(outputs))

    def _send(self, outputs: Outputs) -> None:
        for send in outputs.send:
            self._watch.acceptor_sends(self.me, send)
        self._bulk.send(outputs.send, self._clock.now())
