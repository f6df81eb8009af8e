"""One replica's part in consensus: it follows, campaigns, leads and learns.

This is where the pieces meet: ``election`` says when, ``leader`` runs phases 1 and 2, ``learner`` puts decisions in
order. The owner feeds events in (``receive``, ``connected``, ``disconnected``, ``tick``, ``propose``, ``confirm``) and
performs ``outputs``.

Decisions are executed here at once, and told to the other replicas once a tick: no caller waits for them there, and to
wake two more processes for every slot would cost as much as the slot itself. What a leader dies with before it has
told is found by its successor's phase 1, as anything accepted is.

Linearizable reads (PROTOCOL rule 5): ``confirm`` begins a ping round **after** the read arrived; when a majority of
acceptors answers that it still promises this very ballot, no later leader can have decided anything before the round
began. The read may then be served from a state in which every slot below ``read_barrier`` is applied. No clock is
involved.
"""

from __future__ import annotations

import random

from concoord_ray.config import Config
from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.election import Election, PingRound, Standing
from concoord_ray.paxos.leader import Leader
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.messages import CatchUp, Decisions, Heartbeat, Message, NewerView, P1b, P2b, Ping, Pong
from concoord_ray.paxos.outputs import Decided, Outputs, Send
from concoord_ray.paxos.view import Member, Role, View


class Replica:
    """Consensus as one replica sees it. ``noop`` is the value that fills gaps."""

    def __init__(
        self, me: Member, view: View, config: Config, *, noop: bytes, rng: random.Random, now_s: float
    ) -> None:
        self.me = me
        self.view = view
        self.outputs = Outputs()
        self.learner = Learner()
        self.leader = Leader(
            view,
            self.outputs,
            noop=noop,
            retransmit_interval_s=config.retransmit_interval_s,
            window=config.max_slots_in_flight,
        )
        self.election = Election(
            me,
            timeout_s=config.election_timeout_s,
            line_step_s=config.heartbeat_interval_s,
            rng=rng,
            now_s=now_s,
        )
        self.election.stand_in_line(now_s, len(view.replicas), behind=-1)
        #: The last ping round that a majority answered with this leadership's ballot.
        self.confirmed_nonce = -1
        #: When a majority of acceptors was last heard from.
        self.majority_heard_at_s = now_s
        self._config = config
        self._acceptors = frozenset(view.acceptors)
        self._peers = tuple(r for r in view.replicas if r.index != me.index)
        self._heard_at_s: dict[Member, float] = {}
        self._ping: PingRound | None = None
        self._next_nonce = 0
        self._next_heartbeat_s = now_s
        #: What this leadership decided since it last told the other replicas.
        self._untold: list[Decided] = []

    # What the owner asks.

    @property
    def is_leader(self) -> bool:
        """True between the end of phase 1 and the first sign of a higher ballot."""
        return self.leader.is_leading

    @property
    def read_barrier(self) -> int:
        """A read that arrives now must see every slot below this one applied."""
        return max(self.leader.adopted_below, self.learner.next_slot)

    def has_quorum(self, now_s: float) -> bool:
        """False when no majority of acceptors has answered for an election timeout."""
        return now_s - self.majority_heard_at_s <= self._config.election_timeout_s

    def propose(self, value: bytes, now_s: float) -> int:
        """Propose a value for the next slot; only the leader may. Returns the slot."""
        return self.leader.propose(value, now_s)

    def confirm(self, now_s: float) -> int:
        """Begin a confirmation round; reads that arrived before this call may be served once it is confirmed."""
        return self._begin_ping(now_s).nonce

    def set_peers(self, replicas: tuple[Member, ...]) -> None:
        """The current incarnations of the other replicas (a replica may restart within an epoch and catch up)."""
        self._peers = tuple(r for r in replicas if r.index != self.me.index)

    # Events.

    def receive(self, source: Member, message: Message, now_s: float) -> None:
        """Step with one message from an acceptor or another replica."""
        if isinstance(message, (P2b, Pong, P1b)):
            if source in self._acceptors:  # Another incarnation has no part in this view's majorities.
                self._heard(source, now_s)
                self._receive_answer(source, message, now_s)
        elif isinstance(message, Decisions):
            if message.epoch == self.view.epoch:
                for slot, value in enumerate(message.values, message.first_slot):
                    self.outputs.decisions.extend(self.learner.learn(slot, value))
        elif isinstance(message, Heartbeat):
            self._receive_heartbeat(source, message, now_s)
        elif isinstance(message, CatchUp):
            self._receive_catch_up(source, message)
        elif isinstance(message, NewerView):
            self._step_down(None, BOTTOM, now_s)

    def _receive_answer(self, source: Member, message: P2b | Pong | P1b, now_s: float) -> None:
        if isinstance(message, P2b):
            self._receive_p2b(source, message, now_s)
        elif isinstance(message, Pong):
            self._receive_pong(source, message, now_s)
        else:
            self._receive_p1b(source, message, now_s)

    def connected(self, member: Member, now_s: float) -> None:
        """A connection to ``member`` is open (again): repeat at once what was lost with the last one."""
        if member.role is Role.ACCEPTOR:
            self.leader.resend_to(member)
            if self._ping is not None and member not in self._ping.promised:
                self._send_ping((member,), self._ping)
        elif self.is_leader:
            self._send_heartbeat((member,))

    def disconnected(self, member: Member, now_s: float) -> None:
        """The connection to ``member`` was closed: if it led, suspect it at once."""
        if member == self.election.leader:
            self.election.stand_in_line(now_s, len(self.view.replicas), behind=member.index)

    def tick(self, now_s: float) -> None:
        """Step with the passing of time; call it at least every tenth of a heartbeat interval."""
        if self.is_leader:
            self._lead(now_s)
        elif now_s >= self.election.deadline_s:
            self._stand(now_s)
        self.leader.tick(now_s)
        if self._ping is not None and now_s - self._ping.sent_at_s >= self._config.retransmit_interval_s:
            self._ping.sent_at_s = now_s
            self._send_ping(self._still_asked(self._ping), self._ping)

    # Following and campaigning.

    def _receive_heartbeat(self, source: Member, message: Heartbeat, now_s: float) -> None:
        if message.epoch != self.view.epoch or message.ballot < self.election.leader_ballot:
            return
        if self.leader.ballot > message.ballot and (self.is_leader or self.leader.is_scouting):
            return
        if self.is_leader or message.ballot != self.election.leader_ballot or self.election.leader is None:
            self._step_down(source, message.ballot, now_s)
        self.election.wait(now_s)
        if message.decided > self.learner.next_slot:  # Decisions leave before the heartbeat that counts them.
            self.outputs.send.append(Send((source,), CatchUp(self.view.epoch, self.learner.next_slot)))

    def _stand(self, now_s: float) -> None:
        """Candidacy begins with the question whether a majority of acceptors can be reached at all."""
        self.leader.retire()
        self.election.leader = None
        self.election.standing = Standing.CANDIDATE
        self.election.wait(now_s)
        self._begin_ping(now_s)

    def _receive_pong(self, source: Member, message: Pong, now_s: float) -> None:
        self.election.saw(message.promised)
        ping = self._ping
        if message.epoch != self.view.epoch or ping is None or message.nonce != ping.nonce:
            return
        if self.is_leader and message.promised > self.leader.ballot:
            self._step_down(None, message.promised, now_s)
            return
        ping.promised[source] = message.promised
        if self.election.standing is Standing.CANDIDATE and len(ping.promised) >= self.view.quorum:
            self._ping = None
            self.election.wait(now_s)
            if self.election.defers_to(max(ping.promised.values())):
                return
            self.election.standing = Standing.SCOUT
            self.leader.scout(self.election.next_ballot(), self.learner.next_slot, now_s)
        elif self.is_leader:
            agreeing = sum(ballot == self.leader.ballot for ballot in ping.promised.values())
            if agreeing >= self.view.quorum:
                self.confirmed_nonce = ping.nonce
                self._ping = None

    def _receive_p1b(self, source: Member, message: P1b, now_s: float) -> None:
        if message.epoch != self.view.epoch:
            return
        if message.promised > self.leader.ballot:
            self._preempted(message.promised, now_s)
        elif not self.leader.receive_p1b(source, message, self.learner.value_of, now_s):
            if self.leader.is_scouting:
                self.election.wait(now_s)  # A long log comes in many pages: patience as long as they keep coming.
        else:
            self.election.standing = Standing.LEADER
            self.election.leader = self.me
            self.election.leader_ballot = self.leader.ballot
            self._next_heartbeat_s = now_s
            self._lead(now_s)

    # Leading.

    def _receive_p2b(self, source: Member, message: P2b, now_s: float) -> None:
        if message.epoch != self.view.epoch:
            return
        if message.promised > self.leader.ballot:
            self._preempted(message.promised, now_s)
            return
        decided = self.leader.receive_p2b(source, message)
        if decided is not None:
            self.leader.advance(now_s)
            ready = self.learner.learn(decided.slot, decided.value)
            self.outputs.decisions.extend(ready)
            self._untold.extend(ready)

    def _lead(self, now_s: float) -> None:
        if not self.has_quorum(now_s):
            self._step_down(None, self.leader.ballot, now_s)
            return
        self._tell(self._peers, self._untold)
        self._untold = []
        if now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + self._config.heartbeat_interval_s
            self._send_heartbeat(self._peers)
            if self._ping is None:
                self._begin_ping(now_s)

    def _preempted(self, promised: Ballot, now_s: float) -> None:
        self.election.saw(promised)
        if self.is_leader or self.leader.is_scouting:
            self._step_down(None, promised, now_s)

    def _step_down(self, leader: Member | None, ballot: Ballot, now_s: float) -> None:
        self.leader.retire()
        self._ping = None
        self._untold = []
        self.election.follow(leader, ballot, now_s)

    # Learning.

    def _receive_catch_up(self, source: Member, message: CatchUp) -> None:
        self._tell((source,), self.learner.page(message.from_slot, self._config.catch_up_page_bytes))

    def _tell(self, to: tuple[Member, ...], decided: list[Decided]) -> None:
        """Send decisions in slot order, a page at a time: one may be as large as a frame allows.

        A page is of consecutive slots. What others told this leader meanwhile is missing among its own.
        """
        page: list[Decided] = []
        size = 0
        for one in decided if to else ():
            is_next = not page or one.slot == page[-1].slot + 1
            if page and (not is_next or size + len(one.value) > self._config.catch_up_page_bytes):
                self._send_page(to, page)
                page, size = [], 0
            page.append(one)
            size += len(one.value)
        if page:
            self._send_page(to, page)

    def _send_page(self, to: tuple[Member, ...], page: list[Decided]) -> None:
        values = tuple(value for _, value in page)
        self.outputs.send.append(Send(to, Decisions(self.view.epoch, page[0].slot, values)))

    # Pings.

    def _heard(self, acceptor: Member, now_s: float) -> None:
        """An acceptor answered. The majority was last heard when its least recently heard member was."""
        self._heard_at_s[acceptor] = now_s
        if len(self._heard_at_s) >= self.view.quorum:
            self.majority_heard_at_s = sorted(self._heard_at_s.values(), reverse=True)[self.view.quorum - 1]

    def _begin_ping(self, now_s: float) -> PingRound:
        self._ping = PingRound(self._next_nonce, now_s, now_s)
        self._next_nonce += 1
        self._send_ping(self.view.acceptors, self._ping)
        return self._ping

    def _still_asked(self, ping: PingRound) -> tuple[Member, ...]:
        """Who has not answered, and for a leader also who answered before it had promised: it may have by now."""
        if not self.is_leader:
            return tuple(a for a in self.view.acceptors if a not in ping.promised)
        return tuple(a for a in self.view.acceptors if ping.promised.get(a) != self.leader.ballot)

    def _send_ping(self, to: tuple[Member, ...], ping: PingRound) -> None:
        self.outputs.send.append(Send(to, Ping(self.view.epoch, ping.nonce)))

    def _send_heartbeat(self, to: tuple[Member, ...]) -> None:
        self.outputs.send.append(Send(to, Heartbeat(self.view.epoch, self.leader.ballot, self.learner.next_slot)))
