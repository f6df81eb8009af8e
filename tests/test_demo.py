"""The demo runs the main job, and its check would find what it looks for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from concoord_ray.demo import evidence
from concoord_ray.demo.evidence import Evidence, Hold, Increment


def counted(*values: int) -> Evidence:
    """A worker whose increments were answered with these values, one a second."""
    return Evidence([Increment(at, at + 0.5, value) for at, value in enumerate(values)])


def test_every_acknowledged_increment_counts_once() -> None:
    assert evidence.check_counter([counted(1, 3), counted(2, 4)], 4).is_right
    assert evidence.check_counter([], 0).is_right


@pytest.mark.parametrize(
    ("records", "value"),
    [
        ([counted(1, 2, 3)], 2),  # One was lost.
        ([counted(1, 2)], 3),  # One was applied that nobody made, or twice.
        ([counted(1, 2), counted(2)], 3),  # Two were given the same answer.
        ([counted(1, 3)], 2),  # An answer from nowhere.
        ([counted(0, 1)], 2),
    ],
)
def test_what_is_lost_or_repeated_is_found(records: list[Evidence], value: int) -> None:
    assert not evidence.check_counter(records, value).is_right


def holding(*spans: tuple[float, float]) -> Evidence:
    """A worker that held a permit in these spans of time."""
    return Evidence(holds=[Hold(*span) for span in spans])


def test_so_many_holders_as_permits_are_right() -> None:
    assert evidence.check_holders([holding((0, 2), (2, 4)), holding((1, 3)), holding((3, 5))], 2).is_right


@pytest.mark.parametrize(
    "records",
    [
        [holding((0, 2)), holding((1, 3)), holding((1.5, 1.6))],
        [holding((0, 9)), holding((0, 9)), holding((8, 10))],
        [],  # Nobody ever held one: nothing was tried.
    ],
)
def test_a_holder_too_many_is_found(records: list[Evidence]) -> None:
    assert not evidence.check_holders(records, 2).is_right


def test_a_worker_that_failed_or_was_idle_is_found() -> None:
    assert evidence.check_workers([counted(1), counted(2)]).is_right
    assert not evidence.check_workers([counted(1), counted()]).is_right
    failed = counted(2)
    failed.error = "QuorumLost('gone')"
    finding = evidence.check_workers([counted(1), failed])
    assert not finding.is_right
    assert "worker 2: QuorumLost('gone')" in finding.what


def test_the_first_answer_is_to_a_call_made_after_the_kill() -> None:
    records = [counted(1, 2, 3), Evidence([Increment(0.9, 1.1, 4), Increment(1.2, 1.3, 5)])]
    assert evidence.first_answer_s(records, 1.0) == pytest.approx(0.3)
    assert evidence.first_answer_s(records, 5.0) is None


def test_the_silence_is_that_of_all_workers_together() -> None:
    assert evidence.longest_silence_s([counted(1, 2, 3)], 1.0) == pytest.approx(1.0)
    assert evidence.longest_silence_s([counted(1, 2, 3), Evidence([Increment(1, 2.0, 4)])], 1.6) == pytest.approx(0.5)
    assert evidence.longest_silence_s([counted(1)], 0.0) == 0.0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_leader_is_killed_and_nothing_is_lost() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "concoord_ray.demo"],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    happened = [re.search(rf"^ +([\d.]+) s   {what} ", done.stdout, re.MULTILINE) for what in
                ("KILLED", "ANSWERED", "LEADS", "BACK", "CAUGHT UP")]  # fmt: skip
    times_s = [float(found.group(1)) for found in happened if found is not None]
    assert len(times_s) == len(happened), done.stdout
    assert times_s == sorted(times_s)
    assert done.stdout.count("\n  right  ") == 5
    assert "WRONG" not in done.stdout
    assert done.stdout.endswith("\nThe leader was killed, and nothing was lost.\n")
