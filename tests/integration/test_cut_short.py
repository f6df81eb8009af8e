"""What was half done when everything stopped: a view that was agreed to and not yet entered, a start without an end.

The moment between is made by hand, on the disks of an ensemble that is stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import concoord_ray as concoord
from concoord_ray import genesis, resizing, restart
from concoord_ray.paxos.messages import PValue
from concoord_ray.paxos.outputs import Accepted, Joined, Promised
from concoord_ray.paxos.view import Member, Role, View, stop_sign
from concoord_ray.storage.durable import DurableStorage
from concoord_ray.storage.files import is_locked
from tests.integration.conftest import INIT_TIMEOUT_S, MakeEnsemble
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def data_of(root: Path, index: int) -> DurableStorage:
    """The data of an acceptor, as soon as its process is gone."""
    directory = root / f"acceptor-{index}"
    until(lambda: not is_locked(directory))
    return DurableStorage.open(directory, ensemble=root.name, role=Role.ACCEPTOR, index=index, incarnation=100 + index)


def agree(root: Path, before: Sequence[int], after: Sequence[int]) -> View:
    """All acceptors of epoch 0 have accepted that those of ``after`` follow; who is new has only just begun."""
    storages = {index: data_of(root, index) for index in sorted({*before, *after})}
    records = [record for storage in storages.values() for record in storage.load()]
    ballot = max(record.ballot for record in records if isinstance(record, Promised))
    slot = max(record.pvalue.slot for record in records if isinstance(record, Accepted)) + 1
    acceptors = tuple(Member(Role.ACCEPTOR, index, storages[index].incarnation) for index in after)
    following = View(1, acceptors, (0,), slot + 1)
    for index in before:
        storages[index].append([Accepted(0, PValue(ballot, slot, stop_sign(following)))])
    for storage in storages.values():
        storage.close()
    return following


def test_growing(own_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    first = own_ensemble("growing", storage=str(tmp_path), acceptors=1, replicas=1)
    assert concoord.Counter.options(name="c", ensemble=first.name).remote().increment() == 1
    concoord.shutdown(first.name)
    agree(tmp_path / first.name / first.id, [0], [0, 1, 2])

    second = own_ensemble("growing", storage=str(tmp_path))
    assert second.id == first.id
    assert concoord.get("c", ensemble=second.name).increment() == 2
    assert second.status().epoch >= 1
    assert len(second.status().acceptors) == 3
    # Nobody had asked for it: those that the ensemble has no place for are left out, and by a resizing for good.
    assert len(second.resize(acceptors=1, replicas=1).acceptors) == 1
    concoord.shutdown(first.name)

    found = restart.find_data(str(tmp_path), first.name, until_s=time.monotonic() + INIT_TIMEOUT_S)
    assert found is not None
    restart.prepare(found)
    assert genesis.propose_plan(found.plan, genesis.find_holder(first.name))  # And here whoever started it died.
    third = own_ensemble("growing", storage=str(tmp_path))
    assert concoord.get("c", ensemble=third.name).increment() == 3
    assert [acceptor.index for acceptor in third.status().acceptors] == [0]
    assert third.status().has_quorum


def test_what_an_earlier_resizing_has_left_on_the_disks_is_no_wish(
    own_ensemble: MakeEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that has data is started, also what the ensemble has no place for: it may be needed. It does not vote."""
    first = own_ensemble("smaller", storage=str(tmp_path), acceptors=3, replicas=1)
    assert concoord.Counter.options(name="c", ensemble=first.name).remote().increment() == 1
    with monkeypatch.context() as patched:
        patched.setattr(resizing, "retire", lambda *_: None)  # Their nodes were away.
        assert len(first.resize(acceptors=1).acceptors) == 1
    concoord.shutdown(first.name)

    second = own_ensemble("smaller", storage=str(tmp_path))
    assert concoord.get("c", ensemble=second.name).increment() == 2
    assert (len(second.status().acceptors), second.status().voters) == (3, 1)
    status = second.resize(replicas=2)
    assert (len(status.acceptors), len(status.replicas), status.voters) == (1, 2, 1)
    assert concoord.get("c", ensemble=second.name).increment() == 3


def test_shrinking(own_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    first = own_ensemble("shrinking", storage=str(tmp_path), acceptors=3, replicas=1)
    assert concoord.Counter.options(name="c", ensemble=first.name).remote().increment() == 1
    concoord.shutdown(first.name)
    root = tmp_path / first.name / first.id
    following = agree(root, [0, 1, 2], [0])
    last = data_of(root, 0)
    last.append([Joined(following)])
    last.close()

    second = concoord.init("shrinking", storage=str(tmp_path), timeout_s=INIT_TIMEOUT_S)
    assert concoord.get("c", ensemble=second.name).increment() == 2
    assert second.status().epoch >= 1
