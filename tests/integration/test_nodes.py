"""Lost machines: their members come back elsewhere, with no human, while calls go on.

``python -m tests.integration.test_nodes`` tells how long everything took.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

import concoord_ray as concoord
from concoord_ray import EnsembleStatus
from tests.integration.casualties import leader, strong
from tests.integration.machines import Ensembles, Machines, apart, is_process, node_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


def test_the_members_of_a_lost_machine_come_back_elsewhere(tmp_path: Path) -> None:
    apart(lost_machines, str(tmp_path))


def lost_machines(storage: str) -> None:
    """Two ensembles, in memory and on disk, lose the machine of a leader, and then that of a registry.

    At last the one on disk is started again from its data, which must not tie its members to the machines of the data.
    """
    with Machines(5) as machines:
        both = Ensembles(machines, storage)
        first = strong("durable")

        # The spare takes its place. The file system outlives it: the durable members come back as themselves.
        lost = node_of(leader(first))
        both.call_while(lambda: both.lose(lost))
        both.await_strength(lost)
        second = strong("durable")
        assert second.epoch == 0
        assert _incarnations(second) == _incarnations(first)

        # There is no spare left until a machine joins. The disk of this one is lost with it.
        lost = node_of(second.registries[0])
        (voter,) = [acceptor for acceptor in second.acceptors if acceptor.node_id == lost]
        members = [member for name in both.names for member in both.members_on(name, lost)]

        def lose_with_disk() -> None:
            both.lose(lost)
            for directory in Path(storage).glob(f"durable/*/*-{voter.index}"):
                directory.rename(directory.with_name(f"lost-{directory.name}"))

        both.call_while(lose_with_disk)
        assert not any(map(is_process, members))
        assert not all(each.alive for each in concoord.status("durable").acceptors)
        machines.add()
        both.await_strength(lost)
        assert strong("durable").epoch == 1
        both.call_while(lambda: None)
        both.check()

        counted = concoord.get("c", ensemble="durable").getvalue()
        for name in both.names:
            concoord.shutdown(name)
        again = Ensembles(machines, storage, names=("durable",), counter="another")
        assert concoord.get("c", ensemble="durable").getvalue() == counted
        status = strong("durable")
        assert _spread(status) == 3
        lost = node_of(leader(status))
        machines.add()
        again.call_while(lambda: again.lose(lost))
        again.await_strength(lost)
        assert _spread(strong("durable")) == 3
        again.check()


def _incarnations(status: EnsembleStatus) -> list[int | None]:
    return [acceptor.incarnation for acceptor in status.acceptors]


def _spread(status: EnsembleStatus) -> int:
    """On how many machines the acceptors are."""
    return len(set(map(node_of, status.acceptors)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        lost_machines(directory)
