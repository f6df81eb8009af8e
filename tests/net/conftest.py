"""Every test that needs an event loop runs on asyncio's own and on uvloop's."""

from __future__ import annotations

import asyncio

import pytest

from concoord_ray.net.loop import new_event_loop
from tests.net.ends import Loop


@pytest.fixture(params=[asyncio.new_event_loop, new_event_loop], ids=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Loop:
    """Makes the loop to run the test on."""
    made: Loop = request.param
    return made
