"""``python -m tests.bench.memory``: does the memory of any role grow with the number of commands?

Many commands on one counter, with several hundred under way at any time; now and then the resident size of every role.
What counts is the growth over the second half: in the first, buffers and caches come to their size.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import ray

import concoord_ray as concoord

_AT_ONCE = 500
_LOOKS = 8
#: By how much a role may be larger at the end than half-way: the allocator's own ups and downs.
_SLACK_BYTES = 24 << 20


def resident_bytes() -> dict[str, int]:
    """Of each role's process, by its name."""
    status = concoord.status()
    members = (*status.replicas, *status.acceptors, *status.registries, *status.gateways)
    return {f"{member.role}{member.index}": _resident_bytes(member.pid) for member in members if member.pid}


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


async def load(counter: concoord.Handle[Any], commands: int) -> None:
    """Increment so many times."""
    left = iter(range(commands))

    async def one() -> None:
        for _ in left:
            await counter.increment.aio()

    await asyncio.gather(*(one() for _ in range(_AT_ONCE)))


def main() -> int:
    """The exit status is 1 if a role has grown."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory", description=__doc__)
    parser.add_argument("--commands", type=int, default=1_000_000, help="how many (default %(default)s)")
    parser.add_argument("--storage", help="keep everything in this directory")
    arguments = parser.parse_args()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    concoord.init(storage=arguments.storage)
    counter = concoord.Counter.options(name="bench").remote()
    looks = [resident_bytes()]
    began_s = time.perf_counter()
    for look in range(1, _LOOKS + 1):
        asyncio.run(load(counter, arguments.commands // _LOOKS))
        looks.append(resident_bytes())
        done = look * (arguments.commands // _LOOKS)
        print(f"{done:>9,} commands after {time.perf_counter() - began_s:6.1f} s", flush=True)
    assert counter.getvalue() == _LOOKS * (arguments.commands // _LOOKS)
    grown = 0
    for name, first in looks[0].items():
        sizes = [each.get(name, 0) for each in looks]
        growth = sizes[-1] - sizes[_LOOKS // 2]
        grown += growth > _SLACK_BYTES
        shown = " ".join(f"{size >> 20:>4}" for size in (first, *sizes[1:]))
        print(f"{name:<24} MiB: {shown}   since half-way {growth >> 10:+} KiB")
    concoord.shutdown()
    ray.shutdown()
    return int(grown > 0)


if __name__ == "__main__":
    sys.exit(main())
