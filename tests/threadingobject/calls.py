"""A session of its own for each name, so that a test of a primitive reads as a story."""

from __future__ import annotations

from typing import Any

from concoord_ray.rsm.command import Cancel, CloseSession, Reply
from tests.rsm.log import Client, Log, calling, error, result


class Story:
    """One object, and the sessions that call it."""

    def __init__(self, cls: type, *args: Any) -> None:
        self.log = Log()
        self._sessions: dict[str, Client] = {}
        self.object_id = self.session("creator").create(cls, *args)
        self._seqs: dict[str, int] = {}

    def session(self, name: str) -> Client:
        if name not in self._sessions:
            self._sessions[name] = self.log.open()
        return self._sessions[name]

    def call(self, name: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call; the result, which must come at once and wake nobody."""
        (reply,) = self.session(name).send(calling(self.object_id, method, *args, **kwargs))
        self._seqs[name] = self.session(name).seq
        return result(reply)

    def fails(self, name: str, method: str, *args: Any, **kwargs: Any) -> BaseException:
        (reply,) = self.session(name).send(calling(self.object_id, method, *args, **kwargs))
        return error(reply)

    def waits(self, name: str, method: str, *args: Any, **kwargs: Any) -> None:
        self._seqs[name] = self.session(name).park(self.object_id, method, *args, **kwargs)

    def wakes(self, name: str, method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call; whom it woke with which result."""
        replies = self.session(name).send(calling(self.object_id, method, *args, **kwargs))
        return self._woken(replies, but=self.session(name).seq)

    def cancels(self, name: str) -> dict[str, Any]:
        """Cancel the session's last call; whom that woke."""
        client = self.session(name)
        replies = client.send(Cancel(self._seqs[name]))
        return self._woken([r for r in replies if r.session != client.session])

    def ends(self, name: str) -> dict[str, Any]:
        """End the session; whom that woke."""
        client = self._sessions.pop(name)
        return self._woken([r for r in client.send(CloseSession()) if r.session != client.session])

    def passes(self, seconds: float) -> dict[str, Any]:
        return self._woken(self.log.pass_time(seconds))

    def read(self, method: str) -> Any:
        return result(self.session("reader").read(self.object_id, method))

    def _woken(self, replies: list[Reply], but: int | None = None) -> dict[str, Any]:
        names = {client.session: name for name, client in self._sessions.items()}
        found = {names[r.session]: result(r) for r in replies if self._seqs.get(names[r.session]) == r.seq}
        assert len(found) == len(replies) - (but is not None)
        return found
