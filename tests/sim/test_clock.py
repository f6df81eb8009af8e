"""The scheduler, the hosts' clocks, pauses and crashes."""

from __future__ import annotations

import pytest

from tests.sim.clock import NS, Livelock, LocalClock, Scheduler
from tests.sim.host import Crashed, HostState
from tests.sim.world import World


def test_events_run_in_time_order_and_ties_in_order_of_scheduling() -> None:
    scheduler = Scheduler(1)
    ran: list[str] = []
    for name, delay_s in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        scheduler.after(delay_s, lambda name=name: ran.append(name))  # type: ignore[misc]
    scheduler.after(1.5, lambda: ran.append("cancelled")).cancel()
    assert not scheduler.run(10.0)
    assert ran == ["first", "second", "late"]
    assert scheduler.now_ns == 10 * NS


def test_run_stops_at_its_condition() -> None:
    scheduler = Scheduler(1)
    ran: list[int] = []
    for second in range(1, 10):
        scheduler.after(second, lambda second=second: ran.append(second))  # type: ignore[misc]
    assert scheduler.run(100.0, stop=lambda: len(ran) == 3)
    assert scheduler.now_s == 3.0


def test_an_endless_loop_is_named() -> None:
    scheduler = Scheduler(77)

    def again() -> None:
        scheduler.after(0, again)

    again()
    with pytest.raises(Livelock, match="seed 77: 1000 events"):
        scheduler.run(1.0, max_events=1000)


def test_streams_are_independent_and_follow_the_seed() -> None:
    assert Scheduler(1).stream("a").random() == Scheduler(1).stream("a").random()
    assert Scheduler(1).stream("a").random() != Scheduler(1).stream("b").random()
    assert Scheduler(1).stream("a").random() != Scheduler(2).stream("a").random()


def test_a_fast_clock_fires_its_timers_early() -> None:
    scheduler = Scheduler(1)
    clock = LocalClock(scheduler, drift_ppm=250_000)
    fired: list[float] = []
    clock.after(10.0, lambda: fired.append(scheduler.now_s))
    scheduler.run(20.0)
    assert fired == [8.0]
    assert clock.now() == 25.0


def test_a_jump_fires_what_it_passes_in_order_of_deadlines() -> None:
    scheduler = Scheduler(1)
    clock = LocalClock(scheduler)
    fired: list[tuple[str, float]] = []
    for name, delay_s in (("later", 9.0), ("sooner", 5.0), ("far", 30.0)):
        clock.after(delay_s, lambda name=name: fired.append((name, scheduler.now_s)))  # type: ignore[misc]
    clock.after(1.5, lambda: fired.append(("cancelled", 0.0))).cancel()
    scheduler.after(1.0, lambda: clock.jump(10.0))
    scheduler.run(100.0)
    assert fired == [("sooner", 1.0), ("later", 1.0), ("far", 20.0)]


def test_drift_that_begins_later_moves_timers_from_then_on() -> None:
    scheduler = Scheduler(1)
    clock = LocalClock(scheduler)
    fired: list[float] = []
    clock.after(10.0, lambda: fired.append(scheduler.now_s))
    scheduler.after(4.0, lambda: clock.drift(-500_000))
    scheduler.run(100.0)
    assert fired == [16.0]


def test_only_the_wall_clock_goes_back() -> None:
    clock = LocalClock(Scheduler(1), wall_offset_s=100.0)
    clock.step_wall(-30.0)
    assert (clock.now(), clock.wall()) == (0.0, 70.0)
    with pytest.raises(ValueError, match="never goes back"):
        clock.jump(-1.0)


def test_a_paused_host_acts_later_and_in_order() -> None:
    world = World(1)
    host = world.host("a")
    seen: list[tuple[str, float]] = []
    host.after(1.0, lambda: seen.append(("timer", world.scheduler.now_s)))
    world.scheduler.after(2.0, lambda: host.dispatch(lambda: seen.append(("event", world.scheduler.now_s))))
    host.pause()
    world.scheduler.after(5.0, host.resume)
    world.run(10.0)
    assert seen == [("timer", 5.0), ("event", 5.0)]


def test_a_crash_loses_timers_and_deferred_events() -> None:
    world = World(1)
    host = world.host("a")
    seen: list[str] = []
    host.after(5.0, lambda: seen.append("timer of the first life"))
    host.pause()
    host.dispatch(lambda: seen.append("deferred"))
    world.scheduler.after(1.0, host.crash)
    world.scheduler.after(2.0, host.restart)
    world.scheduler.after(3.0, lambda: host.dispatch(lambda: seen.append("second life")))
    world.run(10.0)
    host.pause()
    host.resume()
    assert seen == ["second life"]
    assert (host.life, host.state) == (1, HostState.UP)


def test_a_crash_inside_a_step_ends_that_step() -> None:
    world = World(1)
    host = world.host("a")
    seen: list[str] = []

    def step() -> None:
        seen.append("before")
        host.crash()
        raise Crashed

    host.dispatch(step)
    host.dispatch(lambda: seen.append("never"))
    assert seen == ["before"]


def test_a_pause_in_the_middle_of_what_was_deferred_keeps_the_rest() -> None:
    world = World(1)
    host = world.host("a")
    seen: list[int] = []

    def first() -> None:
        seen.append(1)
        host.pause()

    host.pause()
    host.dispatch(first)
    host.dispatch(lambda: seen.append(2))
    host.resume()
    assert seen == [1]
    host.resume()
    assert seen == [1, 2]
