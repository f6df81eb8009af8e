"""One Ray cluster for all integration tests, and one ensemble for those that break nothing.

Tests that kill members or need other settings make an ensemble of their own, by ``own_ensemble``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from tests.integration.drivers import Drivers

#: A busy machine takes its time to start seven processes.
INIT_TIMEOUT_S = 90.0

MakeEnsemble = Callable[..., concoord.Ensemble]


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster that this process is a driver of."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


@pytest.fixture(scope="session")
def ensemble(cluster: str) -> Iterator[concoord.Ensemble]:
    """The ensemble called "default", which lives as long as the tests do."""
    yield concoord.init(timeout_s=INIT_TIMEOUT_S)
    concoord.shutdown()


@pytest.fixture
def own_ensemble(cluster: str, request: pytest.FixtureRequest) -> Iterator[MakeEnsemble]:
    """Makes an ensemble that is stopped when the test ends; its name is the test's unless given."""
    with contextlib.ExitStack() as started:

        def make(name: str | None = None, **settings: Any) -> concoord.Ensemble:
            name = re.sub(r"\W", "-", request.node.name)[:64] if name is None else name
            started.callback(concoord.shutdown, name)
            return concoord.init(name, timeout_s=INIT_TIMEOUT_S, **settings)

        yield make


@pytest.fixture
def drivers(cluster: str) -> Iterator[Drivers]:
    """Starts other drivers of the cluster: processes that end with the test at the latest."""
    with Drivers(cluster) as started:
        yield started
