"""A child has this process's memory as it was, none of its connections, and cannot hold it up for ever."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from concoord_ray.roles.child import Child, ChildFailed
from concoord_ray.rsm.rope import Rope

pytestmark = [
    pytest.mark.skipif(not Child.is_possible(), reason="no forks here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def no_child_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of those that the test has made; other tests may have left some of their own."""
    made: list[int] = []
    fork = os.fork

    def noted() -> int:
        made.append(fork())
        return made[-1]

    monkeypatch.setattr(os, "fork", noted)
    yield
    assert made
    for pid in made:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_it_gives_what_it_made_of_the_memory_as_it_was() -> None:
    state = {"value": b"before" * 500_000}
    child = Child(lambda: Rope([b"it was ", state["value"]]))
    state["value"] = b"after"
    assert child.collect() == Rope([b"it was ", b"before" * 500_000])


def test_it_makes_nothing() -> None:
    assert Child(Rope).collect() == Rope()


def slow() -> Rope:
    time.sleep(60)
    return Rope()


def test_a_connection_ends_with_this_process_though_the_child_lives() -> None:
    ours, theirs = socket.socketpair()
    child = Child(slow)
    ours.close()
    theirs.settimeout(30)
    assert theirs.recv(1) == b""
    theirs.close()
    with pytest.raises(ChildFailed, match="nothing for"):
        child.collect(silence_s=0.01)


def test_it_fails() -> None:
    with pytest.raises(ChildFailed, match="status 1"):
        Child(lambda: Rope([b"", 1 / 0 and b""])).collect()  # type: ignore[list-item]


def test_it_is_killed() -> None:
    def work() -> Rope:
        os.kill(os.getpid(), 9)
        return Rope()

    with pytest.raises(ChildFailed, match="status -9"):
        Child(work).collect()
