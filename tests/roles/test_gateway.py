"""What calls that come to nothing are told: when the ensemble ends, and in a gateway's life that is not its first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from concoord_ray.answers import EncodedError
from concoord_ray.errors import CallTimeout, NoSuchObject, OutcomeUnknown, Overloaded, QuorumLost
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import Whereabouts
from concoord_ray.roles.gateway import GatewayRole, Parcel
from concoord_ray.rsm.command import Call, Entry, Leading, NotLeader, Outcome, Refusal, Reply
from concoord_ray.rsm.wire import encode_message, encode_plain
from tests.roles.conftest import LEADER, NoDiscovery, Sent, boot

pytestmark = pytest.mark.usefixtures("sent")

PATIENCE_S = 10.0
FIRST_MOMENTS_S = 0.4


def gateway(*, is_restarted: bool = False, leader: bool = True, **settings: Any) -> GatewayRole:
    config = {
        "session_ttl_s": FIRST_MOMENTS_S,
        "quorum_timeout_s": 0.1,
        "gateway_order_wait_s": 30.0,
        "withdrawal_grace_s": 0.2,
        **settings,
    }
    made = GatewayRole(
        boot(Role.GATEWAY, **config), Whereabouts("127.0.0.1", "node", 1, is_restarted=is_restarted), NoDiscovery()
    )
    if leader:
        made.connected(LEADER)
        made.receive(LEADER, [Leading()])
    return made


def parcel(
    seq: int,
    *,
    order: int | None = None,
    readonly: bool = False,
    awaits_loss: bool = False,
    may_park: bool = False,
    timeout_s: float | None = None,
) -> Parcel:
    entry = Entry(7, seq, (), encode_message(Call(1, "acquire", "1", b"")))
    return Parcel(
        entry, readonly=readonly, order=order, awaits_loss=awaits_loss, may_park=may_park, timeout_s=timeout_s
    )


async def called(where: GatewayRole, *parcels: Parcel) -> list[asyncio.Task[Any]]:
    calls = [asyncio.create_task(where.call(each, ())) for each in parcels]
    await asyncio.sleep(0)
    return calls


async def endings(calls: list[asyncio.Task[Any]]) -> list[object]:
    """The results; of errors the types."""
    ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), PATIENCE_S)
    return [type(each) if isinstance(each, BaseException) else each for each in ended]


async def leaderless(where: GatewayRole) -> None:
    """Nobody leads for as long as it takes to give up."""
    where.receive(LEADER, [NotLeader(None, has_quorum=False)])
    for _ in range(3):
        await asyncio.sleep(0.1)
        where.tick(asyncio.get_running_loop().time())


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_when_the_ensemble_ends_everybody_is_told_what_is_known_of_the_call() -> None:
    async def test() -> None:
        one = gateway()
        out_of_order = parcel(9, order=5)
        calls = await called(
            one,
            parcel(1),
            parcel(2, may_park=True),
            parcel(3, awaits_loss=True),
            parcel(-1, readonly=True),
            out_of_order,
        )
        await asyncio.wait_for(one.leave(), PATIENCE_S)
        assert all(call.done() for call in calls)
        assert await endings(calls) == [OutcomeUnknown, OutcomeUnknown, True, NoSuchObject, NoSuchObject]
        assert await endings(await called(one, parcel(10), parcel(-2, readonly=True))) == [NoSuchObject] * 2
        with pytest.raises(NoSuchObject, match=r"concoord\.get"):
            await one.call(parcel(11), ())

    run(test())


def test_what_no_leader_was_sent_was_not_made() -> None:
    async def test() -> None:
        one = gateway(leader=False)
        calls = await called(one, parcel(1), parcel(2, order=0))
        await asyncio.wait_for(one.leave(), PATIENCE_S)
        assert await endings(calls) == [NoSuchObject] * 2

    run(test())


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_an_earlier_life_may_have_sent_may_have_run(is_restarted: bool) -> None:
    """Ray runs the calls of a gateway that has died again on its next life, which knows nothing of them."""

    async def test() -> None:
        one = gateway(is_restarted=is_restarted, leader=False)
        calls = await called(one, parcel(1), parcel(-1, readonly=True))
        await leaderless(one)
        assert await endings(calls) == [OutcomeUnknown if is_restarted else QuorumLost, QuorumLost]
        calls = await called(one, parcel(2), parcel(-2, readonly=True))
        await asyncio.wait_for(one.leave(), PATIENCE_S)
        late = await called(one, parcel(3), parcel(-3, readonly=True))
        assert await endings([*calls, *late]) == [OutcomeUnknown if is_restarted else NoSuchObject, NoSuchObject] * 2

    run(test())


def test_after_its_first_moments_a_life_is_as_any_other() -> None:
    async def test() -> None:
        one = gateway(is_restarted=True, leader=False)
        await asyncio.sleep(FIRST_MOMENTS_S)
        calls = await called(one, parcel(1))
        await leaderless(one)
        assert await endings(calls) == [QuorumLost]

    run(test())


def test_a_repeated_call_that_is_answered_is_as_any_other(sent: Sent) -> None:
    async def test() -> None:
        one = gateway(is_restarted=True)
        calls = await called(one, parcel(1))
        one.receive(LEADER, [Reply(7, 1, Outcome.PLAIN, encode_plain(True))])
        assert await endings(calls) == [True]
        assert one._repeated == set()

    run(test())


@pytest.mark.parametrize("was_answered", [False, True])
def test_what_ray_runs_again_on_the_same_life_may_have_run(was_answered: bool) -> None:
    """The answer was lost on its way to the caller, and then the leader."""

    async def test() -> None:
        one = gateway()
        first = await called(one, parcel(1, timeout_s=0.1))
        if was_answered:
            one.receive(LEADER, [Reply(7, 1, Outcome.PLAIN, encode_plain(True))])
            assert await endings(first) == [True]
        one.disconnected(LEADER)
        again = await called(one, parcel(1, timeout_s=0.1), parcel(-1, readonly=True, timeout_s=0.1))
        assert await endings(again) == [OutcomeUnknown, CallTimeout]
        assert one._repeated == set()
        unsent = await called(one, parcel(2, timeout_s=0.1))
        assert await endings(unsent) == [CallTimeout]
        again = await called(one, parcel(1))
        await asyncio.wait_for(one.leave(), PATIENCE_S)
        late = await called(one, parcel(1), parcel(3))
        assert await endings([*again, *late]) == [OutcomeUnknown, OutcomeUnknown, NoSuchObject]

    run(test())


def test_a_full_gateway_does_not_say_of_what_may_have_run_that_it_was_not_sent() -> None:
    async def test() -> None:
        one = gateway(max_calls_per_gateway=1)
        await asyncio.sleep(FIRST_MOMENTS_S)
        first = await called(one, parcel(1))
        one.receive(LEADER, [Reply(7, 1, Outcome.PLAIN, encode_plain(True))])
        assert await endings(first) == [True]
        other = await called(one, parcel(2))
        again = await called(one, parcel(1), parcel(3))
        one.receive(LEADER, [Reply(7, seq, Outcome.PLAIN, encode_plain(True)) for seq in (1, 2)])
        assert await endings([*other, *again]) == [True, True, Overloaded]

    run(test())


def test_only_so_many_calls_are_remembered() -> None:
    async def test() -> None:
        one = gateway(gateway_remembered_calls=10)
        for seq in range(1, 30):
            calls = await called(one, parcel(seq))
            one.receive(LEADER, [Reply(7, seq, Outcome.PLAIN, encode_plain(True))])
            await endings(calls)
        assert [seq for _, seq in one._came] == list(range(20, 30))

    run(test())


def test_past_its_timeout_every_call_ends() -> None:
    """What was not sent, and what changes nothing, at once; others when their withdrawal is heard of, or soon after."""

    async def test() -> None:
        one = gateway(leader=False)
        unsent = await called(one, parcel(1, timeout_s=0.1), parcel(-1, readonly=True, timeout_s=0.1))
        assert await endings(unsent) == [CallTimeout] * 2
        assert one.courier.unanswered == 0
        one = gateway()
        sent = await called(
            one,
            parcel(1, timeout_s=0.1),
            parcel(2, timeout_s=0.1),
            parcel(3, timeout_s=0.1, order=9),  # Held back for those before it.
            parcel(-1, readonly=True, timeout_s=0.1),
            parcel(4, timeout_s=0.1),
        )
        one.receive(LEADER, [Reply(7, 2, Outcome.PLAIN, encode_plain(True))])
        await asyncio.sleep(0.2)
        refusal = encode_message(Refusal("CallTimeout", "withdrawn"))
        one.receive(LEADER, [Reply(7, 4, Outcome.REFUSED, refusal)])
        assert await endings(sent) == [OutcomeUnknown, True, OutcomeUnknown, CallTimeout, EncodedError]
        assert one.courier.unanswered == 0

    run(test())


def test_in_a_next_life_nothing_is_certain_not_to_have_been_sent() -> None:
    async def test() -> None:
        one = gateway(is_restarted=True, leader=False)
        assert await endings(await called(one, parcel(1, timeout_s=0.1))) == [OutcomeUnknown]

    run(test())


def test_a_gateway_is_alone_when_the_last_process_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        one = gateway()
        members = [Member(Role.REPLICA, 0, 1), Member(Role.CLIENT, 0, 1), Member(Role.CLIENT, 0, 2)]
        monkeypatch.setattr(one.node.links, "members", lambda: members)
        alone = asyncio.create_task(one.alone())
        for _ in range(2):
            await asyncio.sleep(0.1)
            assert not alone.done()
            members.pop()
        await asyncio.wait_for(alone, PATIENCE_S)

    run(test())
