"""What a user sees on the console: nothing that is not about the user's own program."""

from __future__ import annotations

from pathlib import Path

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


NO_DISK = """
for storage in storages:
    try:
        concoord.init("speechless", acceptors=3, replicas=3, storage=storage)
    except concoord.ConfigurationError as error:
        print(error)
"""


def test_a_storage_path_that_cannot_be_is_said_once(drivers: Drivers, tmp_path: Path) -> None:
    """Not for each member; and no traceback of theirs."""
    (tmp_path / "file").touch()
    driver = drivers.start(NO_DISK, storages=[str(tmp_path / "file"), "/proc/nothing"])
    printed = driver.finish()
    assert len(printed) == 2
    for line, cause in zip(printed, ("File exists", "No such file or directory"), strict=True):
        assert "for want of acceptor 0, acceptor 1, acceptor 2, replica 0, replica 1, replica 2" in line
        assert line.count(cause) == line.count("Mend the disk") == 1
    assert "Traceback" not in driver.stderr()
    assert "Unhandled error" not in driver.stderr()


def _is_rays_own(line: str) -> bool:
    """What Ray says when any program connects, or has many actors for the machine that it runs on."""
    phrases = ("worker.py", "authentication_token_setup.py", "PYTHON worker processes have been started")
    return any(phrase in line for phrase in phrases)
