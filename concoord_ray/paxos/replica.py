"""One replica's part in consensus: it follows, campaigns, leads and learns.

This is where the pieces meet: ``election`` says when, ``leader`` runs phases 1 and 2, ``learner`` puts decisions in
order. The owner feeds events in (``receive``, ``connected``, ``disconnected``, ``tick``, ``propose``, ``confirm``) and
performs ``outputs``.

Decisions are executed here at once, and told to the other replicas once a tick: no caller waits for them there, and to
wake two more processes for every slot would cost as much as the slot itself. What a leader dies with before it has
told is found by its successor's phase 1, as anything accepted is.

Linearizable reads (PROTOCOL rule 5): ``confirm`` begins a ping round **after** the read arrived; when a majority of
acceptors answers that it still promises this very ballot, no later leader can have decided anything before the round
began. The read may then be served from a state in which every slot below ``read_barrier`` is applied. A leader that has
proposed a stop-sign begins no round (``may_confirm``): the next epoch may decide without it. Any other leader of this
epoch has been outvoted by then, so its pings need no further care.

Views (*Stoppable Paxos*, Lamport, Malkhi and Zhou 2008): whoever hands on a stop-sign enters the view that follows; who
led runs phase 1 of it at once (``muster``). A leader of a later epoch is believed, and asked for what is missing.
"""

from __future__ import annotations

import random

from concoord_ray.config import Config
from concoord_ray.errors import Diverged
from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.catching_up import CatchingUp
from concoord_ray.paxos.election import Election, Standing
from concoord_ray.paxos.leader import Leader
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.membership import Membership
from concoord_ray.paxos.messages import (
    Behind,
    CatchUp,
    Decisions,
    Following,
    Heartbeat,
    Message,
    NewerView,
    P1b,
    P2b,
    Pong,
    Progress,
)
from concoord_ray.paxos.muster import Muster
from concoord_ray.paxos.outputs import Decided, Outputs, Send
from concoord_ray.paxos.pings import Pings
from concoord_ray.paxos.truncation import Truncation
from concoord_ray.paxos.view import Member, Role, View, following_view, stop_sign


class Replica:
    """Consensus as one replica sees it. ``noop`` is the value that fills gaps."""

    def __init__(
        self, me: Member, view: View, config: Config, *, noop: bytes, rng: random.Random, now_s: float
    ) -> None:
        self.me = me
        self.view = view
        self.outputs = Outputs()
        self.learner = Learner()
        self._config = config
        self._noop = noop
        self.leader = self._leader_of(view)
        self.election = Election(me, config, rng=rng, now_s=now_s)
        self.election.stand_in_line(now_s, len(view.replicas), behind=-1)
        #: The last ping round that a majority answered with this leadership's ballot.
        self.confirmed_nonce = -1
        #: When a majority of acceptors was last heard from.
        self.majority_heard_at_s = now_s
        self.truncation = Truncation(me.index, config)
        self._acceptors = frozenset(view.acceptors)
        self.membership = Membership(me.index, config)
        #: The lives of the other replicas, as the directory has them.
        self.peers: tuple[Member, ...] = ()
        #: Where this replica's log ended when it turned out that nobody has what follows.
        self._behind_at: int | None = 0 if view.first_slot > 0 else None
        self._pings = Pings(self.outputs, self.truncation, config)
        self._next_heartbeat_s = now_s
        self._catching_up = CatchingUp(self.outputs, self.learner, config)
        self._muster = Muster(self.truncation, config, now_s)

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

    @property
    def may_confirm(self) -> bool:
        """Whether a confirmation round that begins now would say anything."""
        return self.leader.may_propose

    @property
    def is_behind(self) -> bool:
        """Whether the slots that follow are gone from a log that was asked: a snapshot helps."""
        return self._behind_at == self.learner.next_slot and not self.is_leader  # Who leads was shown what follows.

    def set_members(self, acceptors: tuple[Member, ...], replicas: tuple[Member, ...]) -> None:
        """Which incarnations live at which indices now, in the view or not."""
        self.peers = tuple(replica for replica in replicas if replica.index != self.me.index)
        self.truncation.retain(self.peers)
        self.membership.set_acceptors(acceptors)

    def install(self, view: View, next_slot: int, now_s: float) -> bool:
        """Go on from a snapshot that has the effects of every slot below ``next_slot``; False if that is behind us."""
        if next_slot <= self.learner.next_slot:
            return False
        self.learner.jump(next_slot)
        self.outputs.decisions.clear()
        if view.epoch > self.view.epoch:
            self._enter(view, now_s)
        else:
            self._step_down(None if self.is_leader else self.election.leader, BOTTOM, now_s)
        self._hand_on(self.learner.ready(), now_s)
        if self.election.leader is None:  # As at any start: nobody is waited for.
            self.election.stand_in_line(now_s, len(self.view.replicas), behind=-1)
        return True

    def again_from(self, slot: int) -> bool:
        """Hand on every slot from this one on once more; False, and nothing done, if the log does not reach back."""
        reaches_back = self.learner.first_slot <= slot <= self.learner.next_slot
        if reaches_back:
            self.outputs.decisions[:] = self.learner.page(slot, self.learner.log_bytes)
        return reaches_back

    def abdicate(self, now_s: float) -> None:
        """Let another lead."""
        self._step_down(None, self.leader.ballot, now_s)

    def confirm(self, now_s: float) -> int:
        """Begin a confirmation round; reads that arrived before this call may be served once it is confirmed."""
        return self._pings.begin(self.view, now_s).nonce

    # Events.

    def receive(self, source: Member, message: Message, now_s: float) -> None:
        """Step with one message from an acceptor or another replica."""
        if isinstance(message, (P2b, Pong, P1b)):
            self.membership.heard(source, now_s)
            # Another incarnation, or an answer of another epoch, has no part in this view's majorities.
            if source in self._acceptors and message.epoch == self.view.epoch:
                heard_at_s = self.membership.majority_heard_at_s(self.view)
                self.majority_heard_at_s = max(self.majority_heard_at_s, heard_at_s)
                self._receive_answer(source, message, now_s)
        elif isinstance(message, Decisions):
            self._receive_decisions(source, message, now_s)
        elif isinstance(message, Heartbeat):
            self._receive_heartbeat(source, message, now_s)
        elif isinstance(message, Progress) and source in self.peers:  # An earlier life's word is worth nothing.
            self.truncation.progressed(source, message, now_s)
            self._muster.let_go(self.leader, now_s)
        elif isinstance(message, CatchUp):
            self._receive_catch_up(source, message, now_s)
        elif isinstance(message, Following):
            self._receive_following(message, now_s)
        elif isinstance(message, Behind) and message.from_slot == self.learner.next_slot:
            self._behind_at = message.from_slot
        elif isinstance(message, NewerView) and message.view.epoch > self.view.epoch:
            self._catching_up.ask(self.peers, self.view.epoch, now_s)

    def _receive_answer(self, source: Member, message: P2b | Pong | P1b, now_s: float) -> None:
        if isinstance(message, P2b):
            self._receive_p2b(source, message, now_s)
        elif isinstance(message, Pong):
            self._receive_pong(source, message, now_s)
        else:
            self._receive_p1b(source, message, now_s)

    def connected(self, member: Member, now_s: float) -> None:
        """A connection to ``member`` is open (again): repeat at once what was lost with the last one."""
        if member in self._acceptors:
            self.leader.resend_to(member)
            self._pings.resend_to(member)
        elif member.role is Role.REPLICA:
            self._muster.connected(member, now_s)
            self._catching_up.forget()
            if self.is_leader and member in self.peers:
                self._send_heartbeat((member,))

    def disconnected(self, member: Member, now_s: float) -> None:
        """The connection to ``member`` was closed: if it led, suspect it at once."""
        self._muster.disconnected(member)
        self.truncation.disconnected(member)
        self.membership.disconnected(member)
        self._catching_up.forget()
        if member == self.election.leader:
            self.election.stand_in_line(now_s, len(self.view.replicas), behind=member.index)

    def tick(self, now_s: float) -> None:
        """Step with the passing of time; call it at least every tenth of a heartbeat interval."""
        if self.is_leader:
            self._lead(now_s)
        elif now_s >= self.election.deadline_s and self.truncation.applied_slot >= self.learner.first_slot:
            self._stand(now_s)  # Not while a snapshot is restored: it could lead, and answer nobody.
        else:
            self._scout_if_due(now_s)
        self.leader.tick(now_s)
        self.learner.truncate(min(self.truncation.below, self.truncation.applied_slot))
        self._pings.tick(self.leader, now_s)

    # Following and campaigning.

    def _receive_heartbeat(self, source: Member, message: Heartbeat, now_s: float) -> None:
        if message.epoch < self.view.epoch:
            self.outputs.send.append(Send((source,), NewerView(self.view)))
            return
        self.truncation.heard(message.truncate_below)
        if message.epoch > self.view.epoch:  # Ballots of different epochs do not compare: the later epoch leads.
            self._step_down(source, BOTTOM, now_s)
            self.outputs.send.append(Send((source,), self.truncation.own_progress(self.view.epoch)))
            self._catching_up.ask((source,), self.view.epoch, now_s)
            return
        if message.ballot < self.election.leader_ballot:
            return
        if self.leader.ballot > message.ballot and (self.is_leader or self.leader.is_scouting):
            return
        if self.is_leader or message.ballot != self.election.leader_ballot or self.election.leader is None:
            self._step_down(source, message.ballot, now_s)
        self.election.heard_at_s = now_s
        self.election.wait(now_s)
        self.outputs.send.append(Send((source,), self.truncation.own_progress(self.view.epoch)))
        if message.decided > self.learner.next_slot:  # Decisions leave before the heartbeat that counts them.
            self._catching_up.ask((source,), self.view.epoch, now_s)

    def _receive_following(self, message: Following, now_s: float) -> None:
        is_asking = self.election.standing is Standing.CANDIDATE and now_s < self.election.scout_at_s
        if is_asking and message.epoch == self.view.epoch and message.ballot >= self.election.leader_ballot:
            self._pings.end()
            self.election.stand_back(now_s)

    def _stand(self, now_s: float) -> None:
        """Candidacy begins with the question whether a majority of acceptors can be reached at all."""
        self.leader.retire()
        self._pings.end()
        self.election.stand(now_s)
        # Our view may be long over: any peer that has come further helps. So does one that hears from the leader.
        self._catching_up.forget()
        self._catching_up.ask(self.peers, self.view.epoch, now_s)
        if self.me.index in self.view.replicas and self.learner.next_slot >= self.view.first_slot:
            self._pings.begin(self.view, now_s)

    def _scout_if_due(self, now_s: float) -> None:
        asked = self._pings.round
        if asked is not None and self.election.may_scout(asked.promised.values(), self.view.quorum, now_s):
            self._scout(now_s)

    def _scout(self, now_s: float) -> None:
        self._pings.end()
        self.election.standing = Standing.SCOUT
        self.leader.scout(self.election.next_ballot(), self.learner.next_slot, now_s)

    def _receive_pong(self, source: Member, message: Pong, now_s: float) -> None:
        if message.promised > self.leader.ballot:
            self._preempted(message.promised, now_s)
        if (answered := self._pings.answered(message.nonce)) is None:
            return
        if message.truncated_below > self.learner.next_slot and not self.is_leader:
            self._behind_at = self.learner.next_slot  # Its promise would not show what we miss: it does not count.
            return
        answered.promised[source] = message.promised
        self._scout_if_due(now_s)
        if answered.agreeing(self.leader.ballot) < self.view.quorum:
            return
        if self.is_leader:
            self.confirmed_nonce = answered.nonce
            self._pings.end()
        elif self.leader.is_scouting and not self.leader.dropped_below:  # Followed already: phase 1 may take long.
            self._pings.end()
            self.election.wait(now_s)
            self._send_heartbeat(self.peers)

    def _receive_p1b(self, source: Member, message: P1b, now_s: float) -> None:
        if message.promised > self.leader.ballot:
            self._preempted(message.promised, now_s)
        elif self.leader.receive_p1b(source, message, self.learner.value_of, now_s):
            self.election.standing = Standing.LEADER
            self.election.leader = self.me
            self.election.leader_ballot = self.leader.ballot
            self._next_heartbeat_s = now_s
            self._muster.hold(self.leader, now_s)
            self._lead(now_s)
        elif self.learner.next_slot < self.leader.dropped_below:
            self._behind_at = self.learner.next_slot
        elif self.leader.dropped_below:  # Learned meanwhile, from others: ask again, for what follows alone.
            self._scout(now_s)

    # Leading.

    def _receive_p2b(self, source: Member, message: P2b, now_s: float) -> None:
        if message.promised > self.leader.ballot:
            self._preempted(message.promised, now_s)
            return
        decided = self.leader.receive_p2b(source, message)
        if decided is not None:
            self.leader.advance(now_s)
            ready = self.learner.learn(decided.slot, decided.value, is_final=False)
            self._catching_up.gathered.extend(ready)
            self._hand_on(ready, now_s)

    def _lead(self, now_s: float) -> None:
        if not self.has_quorum(now_s):
            self._step_down(None, self.leader.ballot, now_s)
            return
        self._catching_up.tell_gathered(self.peers, self.view.epoch)
        self._muster.let_go(self.leader, now_s)
        if now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + self._config.heartbeat_interval_s
            self.truncation.decide(self.view, self.learner)
            self._send_heartbeat(self.peers)
            self._pings.probe(self.membership.candidates(self.view), self.view)
            self._reconfigure(now_s)

    def _preempted(self, promised: Ballot, now_s: float) -> None:
        self.election.saw(promised)
        if self.is_leader or self.leader.is_scouting:
            self._step_down(None, promised, now_s)

    def _step_down(self, leader: Member | None, ballot: Ballot, now_s: float) -> None:
        self.leader.retire()
        self._pings.end()
        self._catching_up.gathered.clear()
        self.election.follow(leader, ballot, now_s)

    # Views.

    def _reconfigure(self, now_s: float) -> None:
        """Propose the view that the ensemble needs, if it is another one and the time is right for it."""
        if self.leader.may_propose and self._muster.is_complete(self.view, now_s):
            slot, log_bytes = self.leader.next_slot, self.learner.log_bytes
            following = self.membership.following(self.view, slot, self.truncation, log_bytes, now_s)
            if following is not None:
                self.leader.propose(stop_sign(following), now_s)

    def _leader_of(self, view: View) -> Leader:
        return Leader(view, self.outputs, self._config, noop=self._noop)

    def _enter(self, view: View, now_s: float) -> None:
        """Take part in a view from its first slot on. Whoever led runs phase 1 of it at once."""
        was_leading = self.is_leader
        if was_leading:
            self._catching_up.tell_gathered(self.peers, self.view.epoch)
        self._step_down(None if was_leading else self.election.leader, BOTTOM, now_s)
        self.election.leader_ballot = BOTTOM
        self.view = view
        self.leader = self._leader_of(view)
        self._acceptors = frozenset(view.acceptors)
        self.majority_heard_at_s = now_s
        self._muster.begin(now_s, leads_on=was_leading)
        if was_leading and self.me.index in view.replicas:
            self._scout(now_s)
        elif (leader := self.election.leader) is not None and leader.index not in view.replicas:
            self.election.stand_in_line(now_s, len(view.replicas), behind=leader.index)

    # Learning.

    def _hand_on(self, ready: list[Decided], now_s: float) -> None:
        """Execute what the learner has in order; after a stop-sign, as a member of the view that follows."""
        while ready:
            self.outputs.decisions.extend(ready)
            following = following_view(ready[-1].value)
            if following is None:
                return
            if (following.epoch, following.first_slot) != (self.view.epoch + 1, self.learner.next_slot):
                raise Diverged(f"slot {ready[-1].slot} ends epoch {self.view.epoch} with the wrong view {following}.")
            self._enter(following, now_s)
            ready = self.learner.ready()

    def _receive_decisions(self, source: Member, message: Decisions, now_s: float) -> None:
        before = self.learner.next_slot
        for slot, value in enumerate(message.values, message.first_slot):
            self._hand_on(self.learner.learn(slot, value, is_final=True), now_s)
        if before < self.learner.next_slot < message.decided:  # One page has helped, another will.
            self._catching_up.ask((source,), self.view.epoch, now_s)

    def _receive_catch_up(self, source: Member, message: CatchUp, now_s: float) -> None:
        self._catching_up.answer(source, message, self.view.epoch)
        election = self.election
        if election.leader not in (None, self.me, source) and election.heard_lately(now_s):
            self.outputs.send.append(Send((source,), Following(self.view.epoch, election.leader_ballot)))

    def _send_heartbeat(self, to: tuple[Member, ...]) -> None:
        decided, below = self.learner.next_slot, self.truncation.below
        self.outputs.send.append(Send(to, Heartbeat(self.view.epoch, self.leader.ballot, decided, below)))
