"""Finds, when a class is decorated, what would make its replicas differ.

Replicas execute the same methods in the same order, and must come to the same state. A method that reads a clock does
not. Such a mistake shows late, on another machine, as a divergence; so the bytecode of the methods, and of the code of
users that they call, is looked at when the class is decorated. It takes about a millisecond, once.

**What is certain is refused** (``NotDeterministic``): clocks, chance, threads, files, sockets, Ray, addresses in memory
and texts that show them, C, generators and coroutines as methods. **What may be right is warned of**
(``NondeterminismWarning``): the order of a set, ``print``, changes beyond the object, ``eval``, computed names. What
cannot be seen is passed over: a refusal of code that is right would be worse. Names are resolved to the objects that
they stand for, so that a function ``time`` of one's own is nobody's clock.

Not looked at: ``@readonly`` methods, which run on one replica, so that no other has to agree (but they need a result);
methods that run in the caller's process; code that is installed, but for the class itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

from concoord_ray.determinism.scan import Scan
from concoord_ray.errors import ConfigurationError, NotDeterministic

#: What to do about what was found: refuse what is certain and warn of the rest; warn of all; not even look.
Determinism = Literal["refuse", "warn", "ignore"]


#: Our own classes are looked at by the tests, and not again in every process that imports them.
_OURS = f"{__name__.partition('.')[0]}."


class NondeterminismWarning(UserWarning):
    """A replicated method may not do the same on every replica."""


def check(cls: type, methods: Mapping[str, int], determinism: Determinism) -> None:
    """Look at a class with these methods (``rsm.methods.method_flags``), and refuse it or warn.

    Raises NotDeterministic, which names each place, and ConfigurationError if ``determinism`` is none of the three.
    """
    if determinism not in ("refuse", "warn", "ignore"):
        raise ConfigurationError(f'determinism={determinism!r}: use "refuse", "warn" or "ignore".')
    if determinism == "ignore" or str(cls.__module__).startswith(_OURS):
        return
    findings = Scan(cls, methods).findings()
    sure = [finding for finding in findings if finding.is_sure]
    if sure and determinism == "refuse":
        told = "\n".join(map(str, sure))
        raise NotDeterministic(
            f"{told}\nReplicas would not agree, or callers would have no result. If it is right as it is, decorate the "
            f'class with @concoord.replicated(determinism="warn").'
        )
    for finding in findings:
        text = f'{finding} (@concoord.replicated(determinism="ignore") keeps quiet.)'
        warnings.warn_explicit(text, NondeterminismWarning, finding.file, finding.line, str(cls.__module__))
