"""How long to wait before the next attempt: exponential, with jitter so that a crowd does not come back in step."""

from __future__ import annotations

import random


class Backoff:
    """Delays between ``min_s`` and ``max_s``; each is drawn from ``min_s`` to a ceiling that doubles."""

    def __init__(self, min_s: float, max_s: float, source: random.Random | None = None) -> None:
        self._min_s = min_s
        self._max_s = max(min_s, max_s)
        self._source = source or random.Random()
        self._ceiling_s = min_s

    def next_s(self) -> float:
        """The next delay."""
        self._ceiling_s = min(self._max_s, 2 * self._ceiling_s)
        return self._source.uniform(self._min_s, self._ceiling_s)

    def reset(self) -> None:
        """Start over: the last attempt went well."""
        self._ceiling_s = self._min_s
