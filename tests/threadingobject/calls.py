"""A session of its own for each name, so that a test of a primitive reads as a story."""

from __future__ import annotations

from typing import Any

from concoord_ray.rsm.command import Cancel, CloseSession, EndTask, Outcome, Reply
from tests.rsm.log import Client, Log, calling, error, refused, result


def outcome(reply: Reply) -> Any:
    """A result; of an error the type, of a refusal its name."""
    if reply.outcome == Outcome.RAISED:
        return type(error(reply))
    return refused(reply) if reply.outcome == Outcome.REFUSED else result(reply)


class Story:
    """One object, and the sessions that call it."""

    make_log: type[Log] = Log

    def __init__(self, cls: type, *args: Any, **kwargs: Any) -> None:
        self.log = self.make_log()
        self._sessions: dict[str, Client] = {}
        self.object_id = self.session("creator").create(cls, *args, **kwargs)
        self._seqs: dict[str, int] = {}
        self._told: dict[tuple[int, int], str] = {}

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

    def read(self, method: str, of: int | None = None) -> Any:
        return result(self.session("reader").read(self.object_id if of is None else of, method))

    def does(self, who: str, method: str, *args: Any, of: int | None = None, **kwargs: Any) -> dict[str, Any]:
        """Call, as ``who``: every call that this answers, by ``who``, or ``who.method`` of one that waits for news.

        ``who`` is a session, or "session:owner". An error is told as its type.
        """
        name, _, owner = who.partition(":")
        client = self.session(name)
        command = calling(self.object_id if of is None else of, method, *args, owner=owner or "main", **kwargs)
        self._told[client.session, client.seq + 1] = f"{who}.lost" if method == "lost" else who
        return self._outcomes(client.send(command))

    def cancel(self, who: str) -> dict[str, Any]:
        """Cancel the last call of ``who``: the calls that this answers, but for the cancelled one and the cancel."""
        name = who.partition(":")[0]
        client = self.session(name)
        seq = max(seq for (session, seq), label in self._told.items() if session == client.session and label == who)
        replies = client.send(Cancel(seq))
        return self._outcomes(
            [r for r in replies if (r.session, r.seq) not in ((client.session, client.seq), (client.session, seq))]
        )

    def end(self, name: str, task: str | None = None) -> dict[str, Any]:
        """End a session, or one Ray task of it: the calls that this answers, but for those that ended with it."""
        client = self.session(name)
        replies = client.send(CloseSession() if task is None else EndTask(task))
        outcomes = self._outcomes([r for r in replies if (r.session, r.seq) != (client.session, client.seq)])
        return {who: told for who, told in outcomes.items() if told != "SessionExpired"}

    def waits_for(self, seconds: float) -> dict[str, Any]:
        """Let time pass: the calls that this answers."""
        return self._outcomes(self.log.pass_time(seconds))

    def _outcomes(self, replies: list[Reply]) -> dict[str, Any]:
        outcomes = {self._told[r.session, r.seq]: outcome(r) for r in replies}
        assert len(outcomes) == len(replies)
        return outcomes

    def _woken(self, replies: list[Reply], but: int | None = None) -> dict[str, Any]:
        names = {client.session: name for name, client in self._sessions.items()}
        found = {names[r.session]: result(r) for r in replies if self._seqs.get(names[r.session]) == r.seq}
        assert len(found) == len(replies) - (but is not None)
        return found
