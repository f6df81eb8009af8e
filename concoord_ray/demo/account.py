"""The live account on the terminal: plain lines, each with the seconds since the start."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from concoord_ray.demo.evidence import Finding

_COLUMNS = "{:>12}  {:>12}  {:<24}"


class Account:
    """Writes as things happen, to what is the standard output when it is made. One thread only."""

    def __init__(self) -> None:
        self._output = sys.stdout
        self._started_s = time.monotonic()

    def title(self, *lines: str) -> None:
        """What this is."""
        self._write("", *lines, "")

    def event(self, what: str) -> None:
        """Something happened."""
        self._write(f"{self._elapsed()}  {what}")

    def headings(self) -> None:
        """The head of the table that ``row`` adds to."""
        self._write("", "           " + _COLUMNS.format("increments", "a second", "permits held by").rstrip())

    def row(self, increments: int, per_second: float, holders: Sequence[int]) -> None:
        """The work at one moment."""
        held = ", ".join(f"worker {number}" for number in holders) or "nobody"
        self._write(f"{self._elapsed()} " + _COLUMNS.format(f"{increments:,}", f"{per_second:,.0f}", held).rstrip())

    def findings(self, findings: Sequence[Finding]) -> None:
        """What was checked, and the result."""
        self._write("", "Check:")
        self._write(*(f"  {'right' if finding.is_right else 'WRONG'}  {finding.what}" for finding in findings))

    def end(self, line: str, noise: str = "") -> None:
        """The last line; before it what Ray said meanwhile, if that may help."""
        if noise:
            self._write("", "Ray said:", noise)
        self._write("", line)

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._started_s:7.1f} s "

    def _write(self, *lines: str) -> None:
        self._output.write("".join(f"{line}\n" for line in lines))
        self._output.flush()
