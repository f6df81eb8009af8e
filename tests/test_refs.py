"""Which unfinished calls are watched, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from concoord_ray.config import Config
from concoord_ray.refs import RefWatcher
from concoord_ray.roles.window import Windows
from concoord_ray.rsm.command import Entry

CALLS = 1500


class Ended:
    """Stands for ``client.Client``: it is told which calls have ended."""

    class boot:  # noqa: N801
        config = Config(quorum_timeout_s=5.0)

    is_closed = False

    def __init__(self) -> None:
        self.travelling = Windows(CALLS, 1 << 20, "this process")
        self.acknowledged: list[int] = []

    def acknowledge(self, entries: list[Entry]) -> None:
        self.acknowledged += [entry.seq for entry in entries]


def test_who_is_interrupted_while_it_waits_for_room_loses_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(refs: Sequence[object], *, timeout: float, **_: Any) -> tuple[list[object], list[object]]:
        if timeout > 0:
            raise KeyboardInterrupt
        return [], list(refs)

    def ended(refs: Sequence[object], **_: Any) -> tuple[list[object], list[object]]:
        return list(refs), []

    monkeypatch.setattr("ray.wait", interrupted)
    client: Any = Ended()
    watcher = RefWatcher()
    for seq in range(CALLS):
        watcher.watch(object(), client, Entry(7, seq, (), b""), may_park=False, timeout_s=None)
    with pytest.raises(KeyboardInterrupt):
        watcher.make_room(client, may_park=False)
    monkeypatch.setattr("ray.wait", ended)
    for _ in range(2):
        watcher._await_some(0.0)
    assert sorted(client.acknowledged) == list(range(CALLS))
    assert client.travelling.plain.is_empty
