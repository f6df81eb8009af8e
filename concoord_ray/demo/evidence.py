"""What the workers saw, and whether it can be so if nothing was lost.

All times are of the machine's monotonic clock, which its processes share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Increment:
    """One acknowledged increment: from just before the call to just after its answer."""

    called_at_s: float
    answered_at_s: float
    value: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A permit: from just after acquire returned to just before release was called."""

    from_s: float
    to_s: float


@dataclass(slots=True)
class Evidence:
    """The record of one worker."""

    increments: list[Increment] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    #: What ended the worker too early, if anything.
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    is_right: bool
    what: str


def check_counter(records: Iterable[Evidence], value: int) -> Finding:
    """Each acknowledged increment counted once: the answers are 1, 2, 3 and so on, up to the counter's value."""
    answers = [increment.value for record in records for increment in record.increments]
    repeated = len(answers) - len(set(answers))
    said = f"{len(answers):,} increments were acknowledged, and the counter says {value:,}"
    if repeated:
        said += f"; {repeated:,} answers came more than once"
    return Finding(sorted(answers) == list(range(1, value + 1)), said)


def check_holders(records: Iterable[Evidence], permits: int) -> Finding:
    """Never more holders at once than permits."""
    most = most_at_once([hold for record in records for hold in record.holds])
    grants = sum(len(record.holds) for record in records)
    return Finding(
        0 < most <= permits, f"{grants:,} times a permit was granted; at most {most} of {permits} were held at once"
    )


def check_workers(records: Sequence[Evidence]) -> Finding:
    """No worker ended early, and none was idle."""
    failed = [
        f"worker {number}: {record.error}" for number, record in enumerate(records, 1) if record.error is not None
    ]
    idle = [str(number) for number, record in enumerate(records, 1) if not record.increments]
    if failed:
        return Finding(False, f"{len(failed)} of {len(records)} workers got an error. " + "; ".join(failed))
    if idle:
        return Finding(False, f"workers {', '.join(idle)} never got a permit")
    return Finding(True, f"all {len(records)} workers ran to their end without an error")


def most_at_once(holds: Iterable[Hold]) -> int:
    """The largest number of holds that overlap in one moment. One that ends as another begins does not overlap it."""
    steps = sorted(step for hold in holds for step in ((hold.from_s, 1), (hold.to_s, -1)))
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def first_answer_s(records: Iterable[Evidence], after_s: float) -> float | None:
    """How long after ``after_s`` the first answer came to a call that was made after it; None if none did."""
    answers = [
        increment.answered_at_s
        for record in records
        for increment in record.increments
        if increment.called_at_s >= after_s
    ]
    return min(answers) - after_s if answers else None


def longest_silence_s(records: Iterable[Evidence], around_s: float) -> float:
    """The longest time without any answer that was not over before ``around_s``."""
    answers = sorted(increment.answered_at_s for record in records for increment in record.increments)
    return max((later - earlier for earlier, later in pairwise(answers) if later >= around_s), default=0.0)
