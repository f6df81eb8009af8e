"""System calls of a process that lives already, made to fail from outside of it, by ``strace``."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.waiting import until

#: What puts bytes on a medium, or takes a file away or somewhere else.
_WRITES = "pwrite64,fsync,fdatasync,ftruncate,unlink,unlinkat,rename,renameat,renameat2"
_ATTACH_TIMEOUT_S = 30.0
_RESULT = re.compile(r"^\d+ +(\w+)\(.*\) += (-?\d+)( EIO .*INJECTED)?")


@dataclass(frozen=True, slots=True)
class Written:
    """A call that was seen."""

    call: str
    has_failed: bool


class Seen:
    """The calls by which a process wrote to some files, in order."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def calls(self) -> list[Written]:
        """Those that have returned by now."""
        found = map(_RESULT.match, self._log.read_text().splitlines())
        return [Written(each[1], each[3] is not None) for each in found if each is not None]


@contextlib.contextmanager
def one_failing_sync(pid: int, files: tuple[Path, ...], log: Path) -> Iterator[Seen]:
    """The next sync of these files, of any if there are none, fails with EIO and is not done; all later ones succeed.

    That is what a kernel does when a write-back fails: it says so once, and forgets the data.
    """
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    paths = [word for file in files for word in ("-P", str(file))]
    inject = "inject=fsync,fdatasync:error=EIO:when=1"
    command = ["strace", "-f", "-p", str(pid), "-o", str(log), "-e", f"trace={_WRITES}", "-e", inject, *paths]
    said = log.with_suffix(".said")
    with said.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as tracer:
        try:
            until(lambda: "attached" in said.read_text() or tracer.poll() is not None, _ATTACH_TIMEOUT_S)
            if tracer.poll() is not None:
                pytest.skip(f"strace may not attach here: {said.read_text()}")
            yield Seen(log)
        finally:
            tracer.send_signal(signal.SIGINT)  # It lets go of the process.
            tracer.wait(_ATTACH_TIMEOUT_S)
