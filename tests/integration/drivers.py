"""Other processes that are drivers of the same Ray cluster, as other users of it would be."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]

#: A driver needs about two seconds to import Ray and connect, many more on a busy machine.
PATIENCE_S = 60.0

_CONNECT = """\
import ray
import concoord_ray as concoord
ray.init(address={address!r}, log_to_driver={log_to_driver})
"""


class Driver:
    """A Python process. What it prints is read line by line; what it writes to stderr is kept for failures."""

    def __init__(self, source: str) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (close closes it)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-c", source],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def line(self, timeout_s: float = PATIENCE_S) -> str:
        """The next line that it prints."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"the driver printed nothing for {timeout_s} s; stderr: {self.stderr()}") from None
        assert line is not None, f"the driver ended with {self._process.wait(PATIENCE_S)}; stderr: {self.stderr()}"
        return line

    def finish(self, timeout_s: float = PATIENCE_S) -> list[str]:
        """Wait until it has ended well; the lines that it printed since the last one read."""
        self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        lines = []
        while (line := self._lines.get(timeout=timeout_s)) is not None:
            lines.append(line)
        self._lines.put(None)
        assert self._process.returncode == 0, f"the driver ended with {self._process.returncode}: {self.stderr()}"
        return lines

    def kill(self) -> None:
        """SIGKILL: no goodbye of any kind, from its children neither."""
        with contextlib.suppress(ProcessLookupError):  # Nobody of the group is left.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def stderr(self) -> str:
        """What it has written to stderr so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def close(self) -> None:
        """End it, however it stands."""
        self.kill()
        self._reader.join(PATIENCE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


class Drivers:
    """Starts drivers of one cluster, and ends those that are left."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._started: list[Driver] = []

    def __enter__(self) -> Drivers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for driver in self._started:
            driver.close()

    def start(self, source: str, *, connect: bool = True, log_to_driver: bool = False, **values: Any) -> Driver:
        """Run Python source in a new process; ``values`` are variables in it, by their repr.

        With ``connect``, it begins with ``ray`` and ``concoord`` imported and connected.
        """
        prelude = _CONNECT.format(address=self._address, log_to_driver=log_to_driver) if connect else ""
        given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        driver = Driver(prelude + given + textwrap.dedent(source))
        self._started.append(driver)
        return driver

    def run(self, source: str, *, connect: bool = True, timeout_s: float = PATIENCE_S, **values: Any) -> list[str]:
        """Run source to its end; the lines that it printed."""
        return self.start(source, connect=connect, **values).finish(timeout_s)
