"""What a user sees on the console: nothing that is not about the user's own program."""

from __future__ import annotations

import pytest

from tests.integration.drivers import Drivers

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

ORDINARY = """
ensemble = concoord.init("quiet", acceptors=3, replicas=2)
counter = concoord.Counter.options(name="c", ensemble="quiet", get_if_exists=True).remote()
for _ in range(20):
    counter.increment()
ray.get([counter.increment.remote() for _ in range(20)])
with concoord.Lock.options(ensemble="quiet").remote():
    pass
print(counter.getvalue(), ensemble.status().has_quorum)
ensemble.shutdown()
"""


def test_a_healthy_run_says_nothing(drivers: Drivers) -> None:
    """With the logs of all workers shown to the driver, as is Ray's default."""
    driver = drivers.start(ORDINARY + "import time; time.sleep(2)", log_to_driver=True)
    printed = driver.finish()
    said = [line for line in (*printed, *driver.stderr().splitlines()) if line.strip() and not _is_rays_own(line)]
    assert said == ["40 True"]


def _is_rays_own(line: str) -> bool:
    """What Ray says when any program connects, or has many actors for the machine that it runs on."""
    phrases = ("worker.py", "authentication_token_setup.py", "PYTHON worker processes have been started")
    return any(phrase in line for phrase in phrases)
